# ruff: noqa: N802  (verbs are named as aiosmtpd names them: smtp_MAIL)
"""One SMTP session: the verbs that carry mail, and what is on offer. RFC 5321 section 4.1.

Only what is honoured is offered. Nothing is decided here about who may send what (`admission`) or whether a message is
good (`receive`).
"""

from __future__ import annotations

from datetime import timedelta

from relay.mail.status import Reply
from relay.settings import ListenerTls
from relay.submission import replies
from relay.submission.chunks import Chunks, parse_bdat, skip
from relay.submission.conversation import Arrival
from relay.submission.login import LoginConversation
from relay.submission.receive import Transaction
from relay.submission.received import Client
from relay.submission.shared import Shared
from relay.submission.timing import future_release, timing
from relay.submission.verbs import Mail, parse_mail, parse_rcpt

_LARGEST_LIMIT = 999_999  # RFC 9422 §4: six digits


class Session(LoginConversation):
    """One client, from greeting to goodbye."""

    def __init__(self, shared: Shared, arrival: Arrival) -> None:
        super().__init__(shared, arrival)
        self._transaction: Transaction | None = None
        self._refused = False  # MAIL or RCPT was, and what follows may have been sent before the client heard
        self._chunks: Chunks | None = None  # of the message that BDAT has begun

    async def converse(self) -> None:
        """As above; a message that has not come whole by the end is not kept."""
        try:
            await super().converse()
        finally:
            self.forget()

    @property
    def busy(self) -> bool:
        """Whether a mail transaction is open."""
        return self._transaction is not None

    def forget(self) -> None:
        """Give up the mail transaction, if there is one."""
        if self._transaction is not None:
            self._transaction.give_up()
        self._transaction = None
        self._refused = False
        if self._chunks is not None:
            self._chunks.drop()
            self._chunks = None

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone, and with it what it had begun."""
        self.forget()
        super().connection_lost(error)

    @property
    def _size_limit(self) -> int:
        """The largest message, for this client."""
        for_all = self._shared.settings.max_message_size
        return for_all if self._grant is None else self._grant.size_limit(for_all)

    @property
    def _offers_starttls(self) -> bool:
        return self._shared.tls is not None and self.tls is None and self._listener.tls is not ListenerTls.NONE

    @property
    def _denied(self) -> Reply:
        """What a client hears that may not send anything. RFC 4954 section 6: 530 where a login would help."""
        if self._peer.login is not None:
            return replies.LOGIN_MAY_NOT_SEND
        could_log_in = self._shared.authenticator is not None and self._listener.auth and self._offers_starttls
        return replies.LOGIN_NEEDED if self.mechanisms or could_log_in else replies.RELAYING_DENIED

    def offers(self) -> list[str]:
        """The extensions for EHLO, with their parameters, at this moment."""
        offers = [f"SIZE {self._size_limit}"]
        offers += ["8BITMIME", "SMTPUTF8", "PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN"]
        offers += ["DELIVERBY", "MT-PRIORITY"]
        offers.append(f"LIMITS RCPTMAX={min(self._shared.settings.max_recipients, _LARGEST_LIMIT)}")
        if self._max_hold is not None:
            offers.append(future_release(self._shared.front.clock(), self._max_hold))
        if self._offers_starttls:
            offers.append("STARTTLS")
        if self.tls is not None:
            offers.append("REQUIRETLS")  # RFC 8689 §2: in sessions with TLS only
        mechanisms = self.mechanisms
        if mechanisms:
            offers.append(f"AUTH {' '.join(mechanisms)}")
        return offers

    async def smtp_MAIL(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.2: begin a message."""
        if self._helo is None:
            self._refuse(replies.NO_HELO)
        elif self._transaction is not None:
            self._refuse(replies.NESTED_MAIL)
        else:
            octets = arg.encode("utf-8", "surrogateescape")
            mail = parse_mail(octets, self._extended, self._size_limit)
            if isinstance(mail, Mail) and mail.requiretls and self.tls is None:
                mail = replies.REQUIRETLS_NEEDS_TLS
            begun = mail if isinstance(mail, Reply) else await self._begin(mail)
            self._refused = isinstance(begun, Reply)
            if isinstance(begun, Reply):
                self._refuse(begun, f"MAIL {arg}")
            else:
                self._transaction = begun
                self.say(replies.SENDER_OK)

    @property
    def _max_hold(self) -> timedelta | None:
        """How long this client may have its mail held; None: not at all. RFC 4865 section 6: whoever may send.

        Few clients say EHLO again after they have logged in, so that those who can are told of it before.
        """
        return self._shared.settings.max_hold if self._grant is not None or self.mechanisms else None

    async def _begin(self, mail: Mail) -> Transaction | Reply:
        """Strangers are heard out: RCPT tells them no."""
        asked = timing(mail.wish, self._shared.front.clock(), self._max_hold)
        if isinstance(asked, Reply):
            return asked
        if self._grant is None:
            return Transaction(mail, asked)
        return await self._shared.admission.begin(self._grant, self._peer, mail, asked)

    async def smtp_RCPT(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.3: one recipient. Strangers get here and no further."""
        transaction = self._transaction
        if transaction is None:
            self._refuse_follower(replies.NO_MAIL if self._helo is not None else replies.NO_HELO)
            return
        if self._chunks is not None:
            self._refuse(replies.BDAT_HAS_BEGUN)
            return
        about = f"RCPT {arg}"
        if self._grant is None:
            self._refuse(self._denied, about)
            return
        octets = arg.encode("utf-8", "surrogateescape")
        rcpt = parse_rcpt(octets, self._extended, transaction.mail.smtputf8, self._shared.postmaster)
        if isinstance(rcpt, Reply):
            self._refuse(rcpt, about)
            return
        why_not = await self._shared.admission.add(self._grant, self._peer, transaction, rcpt)
        if why_not is not None:
            self._refused = True
            too_many = why_not is replies.TOO_MANY_RECIPIENTS
            self._refuse(why_not, None if too_many and transaction.full else about)  # the log hears of the first
            transaction.full = transaction.full or too_many
        else:
            self.say(replies.RECIPIENT_OK)

    def _refuse_follower(self, reply: Reply) -> None:
        """Refuse what follows a refused MAIL or RCPT: no mistake of who may send and sends all in one go. RFC 2920."""
        if self._refused and self._grant is not None:
            self.say(reply)
        else:
            self._refuse(reply)

    async def smtp_DATA(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.4: the message itself."""
        ready = replies.NO_ARGUMENT if arg else self._for_message()
        if not isinstance(ready, Reply) and self._chunks is not None:
            ready = replies.BDAT_HAS_BEGUN  # RFC 3030 §2
        if isinstance(ready, Reply):
            self._refuse_follower(ready)
            return
        answer = await self._shared.receiver.receive(*ready, self)
        self._end_message(answer)

    async def smtp_BDAT(self, arg: str) -> None:
        """RFC 3030 section 2: a part of the message, or its end."""
        chunk = parse_bdat(arg)
        if chunk is None:
            # What comes next are octets of the message, nobody knows how many: none of them may become a command.
            self._refuse(replies.BDAT_SYNTAX)
            self.hang_up(replies.LOST_COUNT)
            return
        ready = replies.BDAT_SYNTAX if chunk.last is None else self._for_message()
        if isinstance(ready, Reply):
            if chunk.size > self._size_limit:
                self.hang_up(replies.CHUNK_NOT_READ)  # nobody makes us read for ever
                return
            await skip(self, chunk.size)
            self._refuse_follower(ready)
            return
        if self._chunks is None:
            self._chunks = Chunks(await self._shared.receiver.begin(*ready))
        answer = await self._chunks.receive(chunk, self)
        if chunk.last or answer.code != 250:
            # RFC 3030 §2: after a refusal comes RSET; for the chunks that are on their way there is no message.
            self._chunks = None
            self._end_message(answer)
            self._refused = answer.code != 250
        else:
            self.say(answer)

    def _end_message(self, answer: Reply) -> None:
        """The transaction is over. Who has sent a message with success may make all mistakes anew: sessions last."""
        self.forget()
        if answer.code == 250:
            self._errors = 0
        self.say(answer)

    def _for_message(self) -> tuple[Client, Transaction] | Reply:
        """Whose message may come now, and for whom it is; or why none may."""
        transaction = self._transaction
        if transaction is None or self._helo is None:
            return replies.NO_MAIL if self._helo is not None else replies.NO_HELO
        if not transaction.recipients or self._grant is None:
            return replies.NO_RCPT
        return Client(self._peer, self._helo, self._extended, self.tls, self._listener, self._grant), transaction
