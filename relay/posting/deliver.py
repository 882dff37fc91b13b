"""Hands a message to a server over SMTP, blocking: one answer for each recipient, and nothing taken for granted.

RFC 5321, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3461 (DSN), RFC 8689 (REQUIRETLS), RFC 3207,
RFC 4954 and RFC 4616 (PLAIN). What goes wrong comes out as a value.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.address import Address
from relay.mail.message import MessageDsn, Notify
from relay.mail.status import Reply
from relay.posting.compose import Draft
from relay.posting.place import Server
from relay.posting.result import Exit, Failed, Refused, Result, refusal
from relay.posting.talk import Hear, Talk
from relay.submission_settings import ListenerTls

_NO_DSN = MessageDsn()


@dataclass(frozen=True, slots=True)
class Asked:
    """What the server is asked for beside delivery."""

    dsn: MessageDsn = _NO_DSN
    notify: Notify | None = None
    requiretls: bool = False


def deliver(draft: Draft, server: Server, asked: Asked, hear: Hear | None = None) -> Result:
    """Hand it over. `hear` gets the dialogue, line by line, without secrets."""
    try:
        talk = Talk(server.address.host, server.address.port, hear)
    except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
        return _no_way(server, error)
    try:
        failed = _begin(talk, server)
        result = Result(failed=failed) if failed is not None else _hand_over(talk, draft, asked)
    except OSError as error:
        talk.close()
        return _no_way(server, error)
    talk.leave()
    return result


def _begin(talk: Talk, server: Server) -> Failed | None:
    """Greeting, EHLO, TLS, login. None: MAIL may follow."""
    context = _context(server) if server.tls is ListenerTls.IMPLICIT else None
    greeting = talk.greeting(context)
    if greeting.code != 220:
        return refusal("the greeting", greeting, Exit.UNAVAILABLE)
    reply = talk.hello(server.helo)
    if reply.code != 250:
        return refusal("EHLO", reply, Exit.UNAVAILABLE)
    if context is None and (server.must_have_tls or server.user or not server.here):
        failed = _start_tls(talk, server)
        if failed is not None:
            return failed
    return _log_in(talk, server) if server.user else None


def _start_tls(talk: Talk, server: Server) -> Failed | None:
    """Where it is on offer; where it is not, that is a failure if nothing may be said without."""
    if server.tls is not ListenerTls.NONE and "STARTTLS" in talk.offers:
        reply = talk.ask("STARTTLS")
        if reply.code != 220:
            return refusal("STARTTLS", reply, Exit.UNAVAILABLE)
        talk.start_tls(_context(server))
        reply = talk.hello(server.helo)
        return None if reply.code == 250 else refusal("EHLO", reply, Exit.UNAVAILABLE)
    if not server.must_have_tls:
        return None
    return Failed(Exit.UNAVAILABLE, f"{server.address}: there is no TLS there, and nothing is sent without")


def _log_in(talk: Talk, server: Server) -> Failed | None:
    offered = talk.offers.get("AUTH", "").upper().split()
    name, password = server.user.encode(), server.password.encode()
    if "PLAIN" in offered:
        credentials = b"\0".join((b"", name, password))
        reply = talk.ask(f"AUTH PLAIN {_base64(credentials)}", "AUTH PLAIN ****")
    elif "LOGIN" in offered:
        reply = talk.ask("AUTH LOGIN")
        for answer in (name, password):
            reply = talk.ask(_base64(answer), "****") if reply.code == 334 else reply
    else:
        return Failed(Exit.UNAVAILABLE, f"{server.address}: it offers no login by password (AUTH PLAIN or LOGIN)")
    return None if reply.code == 235 else refusal(f"the login as {server.user}", reply, Exit.NO_PERMISSION)


def _hand_over(talk: Talk, draft: Draft, asked: Asked) -> Result:
    """As many messages as the server's limit of recipients makes necessary."""
    mail = _mail_command(talk, draft, asked)
    if isinstance(mail, Failed):
        return Result(failed=mail)
    replies: list[Reply] = []
    refused: list[Refused] = []
    wanted: Sequence[Address] = draft.recipients
    rest, failed = wanted, None
    while rest and failed is None:
        wanted, rest = rest, ()
        try:
            taken, rest, failed = _envelope(talk, mail, wanted, _rcpt_options(asked), refused)
            answer = _message(talk, draft.octets) if taken and failed is None else None
        except OSError as error:
            answer = Failed(Exit.TEMPORARY, _words(error))
        if isinstance(answer, Reply):
            replies.append(answer)
        elif answer is not None:
            failed = answer
    gone = {one.recipient for one in refused}
    unsent = tuple(one for one in wanted if one not in gone) if failed is not None and replies else ()
    return Result(tuple(replies), tuple(refused), failed, unsent)


def _envelope(
    talk: Talk, mail: str, rest: Sequence[Address], options: str, refused: list[Refused]
) -> tuple[int, list[Address], Failed | None]:
    """MAIL and RCPT. How many were taken, who is for the next message, and what ended it all.

    RFC 5321 section 4.5.3.1.10: 452 to a recipient after others were taken means that they are enough for one message.
    """
    reply = talk.ask(mail)
    if reply.code != 250:
        return 0, [], refusal("MAIL", reply, Exit.UNAVAILABLE)
    taken, later = 0, list[Address]()
    for recipient in rest:
        reply = talk.ask(f"RCPT TO:<{recipient.wire.decode()}>{options}")
        if reply.code in (250, 251):
            taken += 1
        elif reply.code == 421:
            return taken, [], refusal("RCPT", reply, Exit.UNAVAILABLE)
        elif reply.code == 452 and taken:
            later.append(recipient)
        else:
            refused.append(Refused(recipient, reply))
    if not taken:
        talk.ask("RSET")
    return taken, later, None


def _message(talk: Talk, octets: bytes) -> Reply | Failed:
    reply = talk.ask("DATA")
    if reply.code != 354:
        return refusal("DATA", reply, Exit.UNAVAILABLE)
    try:
        reply = talk.give(octets)
    except OSError as error:
        return Failed(Exit.TEMPORARY, f"the message was sent, but not answered; it may be there: {_words(error)}")
    return reply if reply.code == 250 else refusal("the message", reply, Exit.DATA)


def _mail_command(talk: Talk, draft: Draft, asked: Asked) -> str | Failed:
    sender = "" if draft.sender is None else draft.sender.wire.decode()
    words = [f"MAIL FROM:<{sender}>"]
    if "SIZE" in talk.offers:
        words.append(f"SIZE={len(draft.octets)}")
    if not draft.octets.isascii() and "8BITMIME" in talk.offers:
        words.append("BODY=8BITMIME")
    if draft.needs_smtputf8:
        if "SMTPUTF8" in talk.offers:
            words.append("SMTPUTF8")
        elif draft.has_utf8_address:
            return Failed(Exit.UNAVAILABLE, "the server takes no addresses that are not ASCII (SMTPUTF8)")
    if asked.requiretls:
        if "REQUIRETLS" not in talk.offers:
            return Failed(Exit.UNAVAILABLE, "the server offers no REQUIRETLS in this session")
        words.append("REQUIRETLS")
    if "DSN" in talk.offers:
        words += [f"RET={asked.dsn.ret.value}"] if asked.dsn.ret is not None else []
        words += [f"ENVID={asked.dsn.envid}"] if asked.dsn.envid is not None else []
    elif asked.notify is not None:
        return Failed(Exit.UNAVAILABLE, "the server takes no wishes for notices (DSN)")
    return " ".join(words)


def _rcpt_options(asked: Asked) -> str:
    return "" if asked.notify is None else f" NOTIFY={','.join(asked.notify.words)}"


def _context(server: Server) -> ssl.SSLContext:
    """The authorities of the machine are read only where they are needed: it takes longer than all the rest."""
    from relay.tls import ClientContexts, load_roots  # noqa: PLC0415

    contexts = ClientContexts(load_roots(server.ca_file))
    return contexts.webpki if server.verified else contexts.opportunistic


def _no_way(server: Server, error: Exception) -> Result:
    return Result(failed=Failed(Exit.TEMPORARY, f"{server.address}: {_words(error)}"))


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode()
