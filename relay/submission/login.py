# ruff: noqa: N802  (verbs are named as aiosmtpd names them: smtp_AUTH)
"""The part of a session that logs a client in. RFC 4954. What is said and checked is in `auth`."""

from __future__ import annotations

from dataclasses import replace

from relay.mail.status import Reply
from relay.submission import replies
from relay.submission.auth import MECHANISMS, Talk
from relay.submission.conversation import MAX_LINE_OCTETS, Arrival, Conversation
from relay.submission.shared import Shared

_MAX_FAILED_LOGINS = 3


class LoginConversation(Conversation):
    """A conversation with AUTH."""

    def __init__(self, shared: Shared, arrival: Arrival) -> None:
        super().__init__(shared, arrival)
        self._failed_logins = 0

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What AUTH takes at this moment."""
        if self._shared.authenticator is None or not self._listener.auth or self.tls is None:
            return ()
        return tuple(MECHANISMS)

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954: log in."""
        authenticator = self._shared.authenticator
        talk = self._choose_mechanism(arg)
        if authenticator is None or isinstance(talk, Reply):
            self._refuse(talk if isinstance(talk, Reply) else replies.NOT_IMPLEMENTED)
            return
        _, given, initial = arg.partition(" ")
        credentials = await talk(initial.encode("utf-8", "surrogateescape") if given else None, self._ask)
        if isinstance(credentials, Reply):
            self._refuse(credentials)
            return
        answer = await authenticator.check(credentials, str(self._peer.address))
        if answer is replies.AUTHENTICATED:
            self._identify(replace(self._peer, login=credentials.name))
        elif answer is replies.LOGIN_REFUSED:
            self._failed_logins += 1
            self.count_mistake()
        if self._failed_logins >= _MAX_FAILED_LOGINS:
            self.hang_up(replies.TOO_MANY_FAILED_LOGINS)
        else:
            self.say(answer)

    def _choose_mechanism(self, arg: str) -> Talk | Reply:
        words = arg.split(" ")
        if self._shared.authenticator is None or not self._listener.auth:
            return replies.NOT_IMPLEMENTED
        if self.tls is None:
            return replies.LOGIN_NEEDS_TLS
        if not self._extended:
            return replies.NO_HELO
        if self._peer.login is not None:
            return replies.ALREADY_AUTHENTICATED
        if self.busy:
            return replies.LOGIN_IN_TRANSACTION  # RFC 4954 §4
        if not words[0] or len(words) > 2:
            return replies.AUTH_SYNTAX
        return MECHANISMS.get(words[0].upper(), replies.UNKNOWN_MECHANISM)

    async def _ask(self, text: str) -> bytes | Reply:
        self.say(replies.challenge(text))
        line = await self.read_line(MAX_LINE_OCTETS)
        return replies.LOGIN_LINE_TOO_LONG if line is replies.LINE_TOO_LONG else line
