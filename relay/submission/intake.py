"""Mail that comes in as a whole, by HTTP: the same rules as for SMTP, and all recipients or none.

A caller of an API has no use for half a success: it would have to send again, to some, what it cannot take apart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

from relay.mail.address import Address
from relay.mail.handed import Accepted, Declined, HandedIn
from relay.mail.message import Once, utc_date_time
from relay.mail.status import Reply
from relay.policy.clients import Clients, Peer
from relay.settings import API_LISTENER, HostPort, ListenerSettings, ListenerTls
from relay.submission import replies
from relay.submission.access import client_address
from relay.submission.admission import Admission
from relay.submission.data import PlainReader
from relay.submission.front import refused
from relay.submission.receive import Incoming, Receiver, Transaction
from relay.submission.received import Client
from relay.submission.timing import NO_WISH, Wish, timing
from relay.submission.verbs import Mail, Rcpt

_HTTP = "HTTP"  # RFC 5321 §4.4 wants a registered name; what others write in such a case
_PLACE = ListenerSettings(name=API_LISTENER, listen=(HostPort(host="127.0.0.1", port=0),), tls=ListenerTls.NONE)


class Intake:
    """For one relay. Mail is taken while `serving` is set."""

    def __init__(self, clients: Clients, admission: Admission, receiver: Receiver, max_hold: timedelta | None) -> None:
        """`max_hold`: how long mail may be held; None: not at all."""
        self._clients = clients
        self._admission = admission
        self._receiver = receiver
        self._max_hold = max_hold
        self.serving = False

    async def submit(
        self,
        host: str,
        login: str,
        handed: HandedIn,
        octets: AsyncIterator[bytes],
        once: Callable[[], Once | None],
    ) -> Accepted | Declined:
        """Take a message, or say why not. `host`: the client, as the socket names it. `once` is asked at the end.

        What is refused for its envelope is so before the first octet is asked for. What `octets` raises comes out here,
        and nothing is stored. When the caller is cancelled, the message is stored whole or not at all.
        """
        address = client_address(host)
        peer = Peer(address, API_LISTENER, login=login)
        if not self.serving:
            return Declined(replies.NOT_READY)  # it starts, or it stops
        grant = self._clients.grant(peer)
        if grant is None:
            return self._declined(peer, handed, Declined(replies.LOGIN_MAY_NOT_SEND))
        most = self._admission.max_recipients
        if len(handed.recipients) > most:  # before each of them is looked at: there may be a million
            return self._declined(peer, handed, Declined(replies.too_many_recipients(most)))
        mail = Mail(handed.sender, smtputf8=True, dsn=handed.dsn)
        asked = timing(_wish(handed), self._receiver.front.clock(), self._max_hold)
        if isinstance(asked, Reply):
            return self._declined(peer, handed, Declined(asked))
        transaction = await self._admission.begin(grant, peer, mail, asked)
        if isinstance(transaction, Reply):
            return self._declined(peer, handed, Declined(transaction))
        try:
            refused = []
            for recipient in handed.recipients:
                why_not = await self._admission.add(grant, peer, transaction, Rcpt(recipient, handed.wanted))
                if why_not is not None:
                    refused.append((recipient, why_not))
            if refused:
                return self._declined(peer, handed, Declined(_of_all(refused), tuple(refused)))
            helo = f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
            client = Client(peer, helo, True, None, _PLACE, grant, _HTTP)
            incoming = await self._receiver.begin(client, transaction)
            return await self._take(incoming, transaction, octets, once)
        finally:
            transaction.give_up()

    async def _take(
        self,
        incoming: Incoming,
        transaction: Transaction,
        octets: AsyncIterator[bytes],
        once: Callable[[], Once | None],
    ) -> Accepted | Declined:
        try:
            await _pass_on(incoming, octets)
        except BaseException:
            incoming.drop()
            raise
        transaction.once = once()
        reply = await incoming.end()
        return Declined(reply) if reply.code != 250 else Accepted(incoming.id, transaction.envelope.recipients)

    def _declined(self, peer: Peer, handed: HandedIn, declined: Declined) -> Declined:
        """Report a refusal, as one by SMTP is, and return it."""
        who = declined.recipients[0][0] if declined.recipients else None
        about = f"message from <{handed.sender or ''}>" + (f" to <{who}>" if who is not None else "")
        front = self._receiver.front
        front.emit(refused(peer, declined.reply.text, about))
        return declined


def _wish(handed: HandedIn) -> Wish:
    """What it asks of time and rank, as MAIL would have said it."""
    if handed.hold_until is None and not handed.priority:
        return NO_WISH
    until = handed.hold_until
    hold = None if until is None else f"until;{utc_date_time(until)}"
    return Wish(hold=hold, hold_until=until, priority=handed.priority)


async def _pass_on(incoming: Incoming, octets: AsyncIterator[bytes]) -> None:
    """All of it, until it is refused."""
    reader = PlainReader()
    async for chunk in octets:
        await incoming.take(reader.feed(chunk))
        if incoming.problem is not None:
            return
    await incoming.take(reader.end())


def _of_all(refused: Sequence[tuple[Address, Reply]]) -> Reply:
    """What stands for all: that it will never do before that it may do later."""
    return min((reply for _, reply in refused), key=lambda reply: reply.code < 500)
