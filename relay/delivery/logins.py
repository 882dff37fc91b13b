"""The logins of routes: made when a session comes up, and told of in the log when a host does not take one."""

from __future__ import annotations

from collections.abc import Mapping

from relay.delivery.credentials import Login, Unreadable
from relay.delivery.results import login_failed, unreadable
from relay.delivery.smtp import OpenSession
from relay.events import Emit, LoginRefused, LoginWorks
from relay.mail.outcome import Cause, Deferred, Failed, Outcome
from relay.mail.status import Kind
from relay.policy.observed import ObservedSession
from relay.policy.routing import Hop
from relay.policy.verdict import Allow
from relay.settings import Settings

_NOT_LIKE_THIS = 530  # RFC 4954 §6: log in first; RFC 3207 §4: STARTTLS first


class Logins:
    """The logins by the name of their route, and which of them hosts do not take at present."""

    def __init__(self, logins: Mapping[str, Login], emit: Emit) -> None:
        self._logins = dict(logins)
        self._emit = emit
        self._refused: dict[tuple[str, str], str] = {}  # route and host -> what was told

    async def log_in(self, session: OpenSession, hop: Hop, allow: Allow) -> Deferred | None:
        """Log in as the route asks; None when that is done, or nothing is asked. Otherwise the session is of no use.

        `allow` is the verdict on the session: a password goes only where it says that the host was proven.
        """
        if hop.user is None:
            return None
        host = session.observed.host
        credentials = self._logins[hop.name].read()
        if isinstance(credentials, Unreadable):
            return self._told(hop, unreadable(credentials, host))
        failed = await session.log_in(credentials, allow)
        if failed is not None:
            return self._told(hop, login_failed(failed, credentials, host, allow.tls))
        if self._refused.pop((hop.name, host), None) is not None:
            self._emit(LoginWorks(hop.name, host, hop.user))
        return None

    def _told(self, hop: Hop, deferred: Deferred) -> Deferred:
        """Once, until it works again or something else is wrong. A lost connection says nothing of the login."""
        key, host = (hop.name, deferred.host or ""), deferred.host or ""
        if deferred.cause is Cause.LOGIN and self._refused.get(key) != deferred.reason:
            self._refused[key] = deferred.reason
            reply = None if deferred.reply is None else deferred.reply.text
            self._emit(LoginRefused(hop.name, host, hop.user or "", deferred.reason, reply))
        return deferred


def logins_of(settings: Settings, emit: Emit) -> Logins:
    """Those of the settings."""
    return Logins(
        {
            route.name: Login(route.user, f"[[route]] {route.name}", route.password_file, route.token_file)
            for route in settings.route
            if route.user
        },
        emit,
    )


def without_530(outcome: Outcome, seen: ObservedSession, hop: Hop | None) -> Outcome:
    """A host that refuses the session, not the recipient: another session, or another host, is to be tried.

    It wants TLS, and it is its own STARTTLS that failed; or it is a host of a route, and wants a login.
    """
    if not isinstance(outcome, Failed) or outcome.reply is None or outcome.reply.code != _NOT_LIKE_THIS:
        return outcome
    status = outcome.status.with_kind(Kind.TEMPORARY)
    if seen.tls is None and seen.starttls_offered:
        failed = seen.handshake
        why = "this server's settings leave its STARTTLS alone"
        if failed is not None:
            why = f"its STARTTLS failed: {failed.problem.value}"
            why += f": {failed.detail}" if failed.detail else ""
        what = f"{outcome.host} takes mail over TLS only, and {why}"
        return Deferred(status, what, outcome.host, outcome.reply, outcome.tls, Cause.TLS_POLICY)
    if hop is None:
        return outcome
    what = f"{outcome.host} wants a login, or another one, from the route {hop.name}"
    return Deferred(status, what, outcome.host, outcome.reply, outcome.tls, Cause.LOGIN)
