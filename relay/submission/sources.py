"""Who may log in besides the users of the users file: the settings of [login], made into what is asked."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime
from functools import partial

from relay.events import Emit, LoginSourceFailed, LoginSourceWorks
from relay.settings import LoginSettings
from relay.submission.bearer import TokenRules
from relay.submission.callback import LoginService
from relay.submission.https import Https
from relay.submission.jwks import IssuerKeys, TokenLogins, keys_in


def login_service(given: LoginSettings, context: ssl.SSLContext, emit: Emit) -> LoginService | None:
    """The service that knows names and passwords, if there is one."""
    if not given.url:
        return None
    return LoginService(given.url, given.url_token_file, Https(context), _Told("login.url", emit).tell)


def token_logins(
    given: LoginSettings,
    context: ssl.SSLContext,
    clock: Callable[[], datetime],
    monotonic: Callable[[], float],
    emit: Emit,
) -> TokenLogins | None:
    """What checks access tokens, if they are taken."""
    if not given.jwks:
        return None
    fetch = partial(Https(context).get, given.jwks)
    keys = IssuerKeys(fetch, monotonic, _Told("login.jwks", emit).tell)
    return TokenLogins(keys, TokenRules(given.issuer, given.audience, given.name_claim), clock)


async def problems(given: LoginSettings, context: ssl.SSLContext) -> tuple[tuple[str, str | None], ...]:
    """Each source that is set, and why it cannot be asked (None: it can). No login is tried."""
    https, found = Https(context), []
    if given.url:
        answer = await https.get(given.url)  # whatever it thinks of GET: it is there
        found.append(("login.url", answer if isinstance(answer, str) else None))
    if given.jwks:
        keys = keys_in(await https.get(given.jwks))
        found.append(("login.jwks", keys if isinstance(keys, str) else None))
    return tuple(found)


class _Told:
    """Reports that something cannot be asked, once, and when it can be again."""

    def __init__(self, source: str, emit: Emit) -> None:
        self._source = source
        self._emit = emit
        self._failing = False

    def tell(self, reason: str | None) -> None:
        if reason is not None and not self._failing:
            self._emit(LoginSourceFailed(self._source, reason))
        elif reason is None and self._failing:
            self._emit(LoginSourceWorks(self._source))
        self._failing = reason is not None
