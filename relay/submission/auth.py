"""Who is the client? Each mechanism's talk with it, the check of what it says, and the count of what failed.

RFC 4954 (AUTH), RFC 4422 appendix A (EXTERNAL), RFC 5802 (SCRAM), RFC 7628 (OAUTHBEARER). When AUTH is allowed at all
is for `login` to say. Neither passwords nor tokens are in any event.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from relay.events import AuthenticationFailed, Emit, FileRefused, LoginsBarred
from relay.mail.status import Reply
from relay.policy.clients import TOKEN, Peer
from relay.submission import replies, sasl, scram
from relay.submission.bearer import TokenFault
from relay.submission.callback import LoginService, Question
from relay.submission.failed_logins import FailedLogins, network_of
from relay.submission.jwks import TokenLogins
from relay.submission.passwords import Passwords
from relay.submission.sasl import Password, Talk, Token
from relay.submission.users import Users
from relay.submission.users_file import normal

_WRONG_PASSWORD: Final = "wrong password"  # noqa: S105  (a reason, no password)
_NO_USER: Final = "no such user"
_SERVICE_SAYS_NO: Final = "refused by login.url"
_LEFT: Final = "left before the answer"
_LIKE_A_TOKEN: Final = "is called like a token of the API"  # noqa: S105
_FOR_ANOTHER: Final = "wants to act for another"
_NOT_IN_CERTIFICATE: Final = "no name that the certificate may log in by"


@dataclass(frozen=True, slots=True)
class Rejected:
    """What the client said is not so. `name`: who it wanted to be."""

    name: str
    reason: str


Outcome = str | Rejected | Reply  # the login, or it is none, or that cannot be said


class Authenticator:
    """Logs clients in. `certificate_logins`: the names by which a client's certificate may log it in."""

    def __init__(
        self,
        users: Users | None,
        service: LoginService | None,
        tokens: TokenLogins | None,
        certificate_logins: Callable[[Peer], tuple[str, ...]],
        failed: FailedLogins,
        emit: Emit,
    ) -> None:
        self._users = users
        self._service = service
        self._tokens = tokens
        self._certificate_logins = certificate_logins
        self._passwords = Passwords(users, service)
        self._failed = failed
        self._emit = emit
        self._ways: dict[str, Callable[[Talk, Peer], Awaitable[Outcome]]] = {
            scram.NAME: self._scram,
            sasl.PLAIN: self._plain,
            sasl.LOGIN: self._login,
            sasl.OAUTHBEARER: self._oauthbearer,
            sasl.XOAUTH2: self._xoauth2,
            sasl.EXTERNAL: self._external,
        }

    async def refresh(self) -> None:
        """Look whether the users file has changed. To be called before `mechanisms` tells a client what is so."""
        problem = await self._users.refresh() if self._users is not None else None
        if problem is not None:
            self._emit(FileRefused(problem))

    def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """Those that may work for this client at this moment; the one to choose first comes first.

        SCRAM only when it works for all: clients that find it take it, and try nothing else when it fails.
        """
        has_passwords = self._service is not None or (self._users is not None and self._users.count > 0)
        has_scram = self._service is None and self._users is not None and self._users.all_have_scram
        works = {
            scram.NAME: has_scram,
            sasl.PLAIN: has_passwords,
            sasl.LOGIN: has_passwords,
            sasl.OAUTHBEARER: self._tokens is not None,
            sasl.XOAUTH2: self._tokens is not None,
            sasl.EXTERNAL: bool(self._certificate_logins(peer)),
        }
        return tuple(name for name in self._ways if works[name])

    async def log_in(self, mechanism: str, talk: Talk, peer: Peer) -> str | Reply:
        """The login, or the answer to a client that has none. `mechanism` is one of `mechanisms`."""
        if self._is_barred(peer):
            return replies.LOGIN_BARRED
        outcome = await self._ways[mechanism](talk, peer)
        if isinstance(outcome, Reply):
            return outcome
        if isinstance(outcome, str) and outcome.casefold().startswith(TOKEN):
            outcome = Rejected(outcome, _LIKE_A_TOKEN)
        if isinstance(outcome, str):
            self._failed.succeeded(peer.address)
            return outcome
        self._count(mechanism, outcome, peer)
        if mechanism in (sasl.OAUTHBEARER, sasl.XOAUTH2):
            await talk.ask(sasl.token_refusal(mechanism))
        return replies.LOGIN_REFUSED

    def _count(self, mechanism: str, rejected: Rejected, peer: Peer) -> None:
        name = replies.printable(rejected.name, 255)
        client, reason = str(peer.address), rejected.reason
        self._emit(AuthenticationFailed(client, name, mechanism, reason, peer.listener))
        full = self._failed.failed(peer.address, self._now())
        if full is not None:
            self._emit(LoginsBarred(str(full)))

    def _is_barred(self, peer: Peer) -> bool:
        return self._failed.are_too_many(peer.address, self._now())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # One way for each mechanism

    async def _plain(self, talk: Talk, peer: Peer) -> Outcome:
        return await self._password(await sasl.hear_plain(talk), sasl.PLAIN, peer)

    async def _login(self, talk: Talk, peer: Peer) -> Outcome:
        return await self._password(await sasl.hear_login(talk), sasl.LOGIN, peer)

    async def _password(self, said: Password | Reply, mechanism: str, peer: Peer) -> Outcome:
        if isinstance(said, Reply):
            return said
        if normal(said.acting_for) not in ("", normal(said.name)):
            return Rejected(said.name, _FOR_ANOTHER)
        if self._is_barred(peer):
            return replies.LOGIN_BARRED
        question = Question(said.name, said.password, str(peer.address), peer.listener, mechanism)
        login = self._passwords.remembered(question)
        if login is not None:
            return login
        try:
            network, rank = network_of(peer.address), self._failed.rank(peer.address, self._now())
            found = await self._passwords.check(question, network, rank, lambda: self._is_barred(peer))
        except asyncio.CancelledError:  # or whoever does not wait for the answer could have us check without end
            self._count(mechanism, Rejected(said.name, _LEFT), peer)
            raise
        return self._wrong(said.name) if found is None else found

    def _wrong(self, name: str) -> Rejected:
        """For the log alone: the client does not hear which of them it was."""
        if self._users is not None and self._users.knows(name):
            return Rejected(name, _WRONG_PASSWORD)
        return Rejected(name, _NO_USER if self._service is None else _SERVICE_SAYS_NO)

    async def _scram(self, talk: Talk, peer: Peer) -> Outcome:
        message = await talk.first()
        first = message if isinstance(message, Reply) else scram.parse_first(message)
        if isinstance(first, Reply) or self._users is None:
            return first if isinstance(first, Reply) else replies.UNKNOWN_MECHANISM
        if first.acting_for not in ("", first.name):
            return Rejected(first.name, _FOR_ANOTHER)
        verifier = self._users.verifier(first.name)
        challenge = scram.server_first(first, verifier, secrets.token_urlsafe(18))
        final = await talk.ask(challenge)
        if isinstance(final, Reply) or self._is_barred(peer):
            return final if isinstance(final, Reply) else replies.LOGIN_BARRED
        if self._users.verifier(first.name) != verifier:  # the file has changed since the challenge
            return self._wrong(first.name)
        proof = scram.judge(first, challenge, verifier, final)
        if isinstance(proof, Reply):
            return self._wrong(first.name) if proof is replies.LOGIN_REFUSED else proof
        last = await talk.ask(proof)  # RFC 4954 §4: what comes with a success goes before it, and is answered
        if isinstance(last, Reply):
            return last
        return replies.BAD_LOGIN_DATA if last else first.name

    async def _external(self, talk: Talk, peer: Peer) -> Outcome:
        wanted = await sasl.hear_external(talk)
        if isinstance(wanted, Reply):
            return wanted
        names = self._certificate_logins(peer)
        if (wanted and wanted.lower() not in names) or not names:
            return Rejected(wanted, _NOT_IN_CERTIFICATE)
        return wanted.lower() or names[0]

    async def _oauthbearer(self, talk: Talk, peer: Peer) -> Outcome:
        return await self._token(await sasl.hear_oauthbearer(talk))

    async def _xoauth2(self, talk: Talk, peer: Peer) -> Outcome:
        return await self._token(await sasl.hear_xoauth2(talk))

    async def _token(self, said: Token | Reply) -> Outcome:
        if isinstance(said, Reply) or self._tokens is None:
            return said if isinstance(said, Reply) else replies.UNKNOWN_MECHANISM
        login = await self._tokens.check(said.token)
        if login is None:
            return replies.LOGIN_UNCHECKED
        if isinstance(login, TokenFault):
            return Rejected(said.name, login.value)
        if normal(said.name).lower() not in ("", normal(login).lower()):
            return Rejected(said.name, _FOR_ANOTHER)
        return login
