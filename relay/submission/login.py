# ruff: noqa: N802  (verbs are named as aiosmtpd names them: smtp_AUTH)
"""The part of a session that logs a client in: when AUTH may be used, and what follows. RFC 4954.

What is said and checked is in `auth`.
"""

from __future__ import annotations

from dataclasses import replace

from relay.mail.status import Reply
from relay.submission import replies
from relay.submission.auth import Authenticator
from relay.submission.conversation import MAX_LINE_OCTETS, Arrival, Conversation
from relay.submission.sasl import Talk
from relay.submission.shared import Shared
from relay.submission.stream import BadLine

_MAX_FAILED_LOGINS = 3


class LoginConversation(Conversation):
    """A conversation with AUTH."""

    def __init__(self, shared: Shared, arrival: Arrival) -> None:
        super().__init__(shared, arrival)
        self._failed_logins = 0

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What AUTH takes at this moment."""
        if self._logins is None or not self._may_be_told_passwords:
            return ()
        return self._logins.mechanisms(self._peer)

    @property
    def _logins(self) -> Authenticator | None:
        return self._shared.authenticator if self._listener.auth else None

    @property
    def _may_be_told_passwords(self) -> bool:
        """Under TLS; and without it, if that is wanted, by clients on this machine: nobody listens in between."""
        in_clear_text = self._shared.settings.plaintext_login_on_loopback and self._peer.on_this_machine
        return self.tls is not None or in_clear_text

    async def smtp_EHLO(self, arg: str) -> None:
        """As above, with the mechanisms of this moment on offer."""
        if self._logins is not None:
            await self._logins.refresh()
        await super().smtp_EHLO(arg)

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954: log in."""
        authenticator = self._logins
        if authenticator is None:
            self._refuse(replies.NOT_IMPLEMENTED)
            return
        await authenticator.refresh()
        mechanism, given, initial = arg.partition(" ")
        refusal = self._auth_refusal(arg, mechanism.upper())
        if refusal is not None:
            self._refuse(refusal)
            return
        talk = Talk(initial.encode("utf-8", "surrogateescape") if given else None, self._ask)
        found = await authenticator.log_in(mechanism.upper(), talk, self._peer)
        if isinstance(found, str):
            self._identify(replace(self._peer, login=found))
            self.say(replies.AUTHENTICATED)
            return
        if found in (replies.LOGIN_REFUSED, replies.LOGIN_BARRED):
            self._failed_logins += 1
            self.count_mistake()
        if self._failed_logins >= _MAX_FAILED_LOGINS:
            self.hang_up(replies.TOO_MANY_FAILED_LOGINS)
        elif found is replies.LOGIN_REFUSED:
            self.say(found)
        else:
            self._refuse(found)

    def _auth_refusal(self, arg: str, mechanism: str) -> Reply | None:
        """Why AUTH cannot be tried; None: it can."""
        if not self._may_be_told_passwords:
            return replies.LOGIN_NEEDS_TLS
        if not self._extended:
            return replies.NO_HELO
        if self._peer.login is not None:
            return replies.ALREADY_AUTHENTICATED
        if self.busy:
            return replies.LOGIN_IN_TRANSACTION  # RFC 4954 §4
        if not mechanism or arg.count(" ") > 1:
            return replies.AUTH_SYNTAX
        return None if mechanism in self.mechanisms else replies.UNKNOWN_MECHANISM

    async def _ask(self, text: str) -> bytes | Reply:
        self.say(replies.challenge(text))
        line = await self.read_line(MAX_LINE_OCTETS)
        if isinstance(line, BadLine):
            return replies.LOGIN_LINE_TOO_LONG if line.answer is replies.LINE_TOO_LONG else line.answer
        return line
