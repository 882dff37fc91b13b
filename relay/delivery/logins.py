"""The logins of routes: made when a session comes up, and told of in the log when a host does not take one."""

from __future__ import annotations

from collections.abc import Mapping

from relay.delivery.credentials import Login, Unreadable
from relay.delivery.results import login_failed, unreadable
from relay.delivery.smtp import OpenSession
from relay.events import Emit, LoginRefused, LoginWorks
from relay.mail.outcome import Cause, Deferred, Failed, Outcome
from relay.mail.status import Kind
from relay.policy.routing import Hop
from relay.policy.verdict import Allow
from relay.settings import Settings

_AUTHENTICATION_REQUIRED = 530  # RFC 4954 §6


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


def without_530(outcome: Outcome, hop: Hop | None) -> Outcome:
    """A host of a route that wants a login refuses us, not the recipient: mail waits until the settings have one."""
    if hop is None or not isinstance(outcome, Failed) or outcome.reply is None:
        return outcome
    if outcome.reply.code != _AUTHENTICATION_REQUIRED:
        return outcome
    what = f"{outcome.host} wants a login, or another one, from the route {hop.name}"
    status = outcome.status.with_kind(Kind.TEMPORARY)
    return Deferred(status, what, outcome.host, outcome.reply, outcome.tls, Cause.LOGIN)
