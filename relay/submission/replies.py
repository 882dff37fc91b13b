"""Everything we say to a client: one table of replies with their enhanced codes.

RFC 5321 section 4.2 (codes), RFC 2034 section 4 and RFC 3463 (enhanced codes), RFC 4954 section 6 (AUTH).
Greeting, EHLO, 334 and 354 carry no enhanced code. A reply never holds the text of an exception.
"""

from __future__ import annotations

import re
from functools import lru_cache

from relay.mail.status import Reply
from relay.policy.quota import Limit, Over

_MAX_TEXT = 480  # RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets
# Control characters, line ends, those that turn the direction of text, and lone surrogates.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _reply(code: int, text: str) -> Reply:
    return Reply.of(code, (text,))


OK = _reply(250, "2.0.0 OK")
SENDER_OK = _reply(250, "2.1.0 Sender OK")
RECIPIENT_OK = _reply(250, "2.1.5 Recipient OK")
BYE = _reply(221, "2.0.0 Bye")
HELP = _reply(214, "2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH")
CANNOT_VERIFY = _reply(252, "2.0.0 Cannot verify, but will take mail and try to deliver it")
READY_FOR_TLS = _reply(220, "2.0.0 Ready to start TLS")
AUTHENTICATED = _reply(235, "2.7.0 Authentication successful")
SEND_DATA = _reply(354, "End data with <CR><LF>.<CR><LF>")

SHUTTING_DOWN = _reply(421, "4.3.2 Service is shutting down, try again later")
NOT_READY = _reply(421, "4.3.2 Service is not taking mail now, try again later")
TIMED_OUT = _reply(421, "4.4.2 Timeout, closing connection")
TOO_MANY_CONNECTIONS = _reply(421, "4.7.0 Too many connections, try again later")
TOO_MANY_FROM_ADDRESS = _reply(421, "4.7.0 Too many connections from your address, try again later")
TOO_FAST = _reply(421, "4.7.0 Too many new connections from your address, try again in a minute")
TOO_MANY_COMMANDS = _reply(421, "4.7.0 Too many commands without a login, closing connection")
TOO_MUCH = _reply(421, "4.7.0 Too many octets without a login, closing connection")
TOO_MANY_ERRORS = _reply(421, "4.7.0 Too many errors, closing connection")
TOO_MANY_FAILED_LOGINS = _reply(421, "4.7.0 Too many failed logins, closing connection")
NOT_A_WEB_SERVER = _reply(421, "4.7.0 This is not a web server, closing connection")
CHUNK_NOT_READ = _reply(421, "4.5.1 No message for a chunk of this size, closing connection")
LOST_COUNT = _reply(421, "4.5.2 Cannot tell where the message goes on, closing connection")

INTERNAL_ERROR = _reply(451, "4.3.0 Local error, try again later")
STORE_UNAVAILABLE = _reply(451, "4.3.0 Queue not available, try again later")
STORE_FULL = _reply(452, "4.3.1 Queue has no room, try again later")
TOO_MANY_RECIPIENTS = _reply(452, "4.5.3 Too many recipients, send to the others in another message")
LOGIN_BUSY = _reply(454, "4.7.0 Too many logins at once, try again later")
LOGIN_UNCHECKED = _reply(454, "4.7.0 Login cannot be checked now, try again later")
LOGIN_BARRED = _reply(454, "4.7.0 Too many failed logins from your address or network, try again later")

TLS_FIRST = _reply(530, "5.7.0 Send STARTTLS first")
REQUIRETLS_NEEDS_TLS = _reply(530, "5.7.10 REQUIRETLS needs an encrypted session, send STARTTLS first")
UNKNOWN_COMMAND = _reply(500, "5.5.2 Command not recognized")
EMPTY_LINE = _reply(500, "5.5.2 Empty command line")
BARE_LF = _reply(500, "5.5.2 Command lines must end with <CR><LF>")
CONTROL_CHARACTER = _reply(500, "5.5.2 Control character in command line")
LINE_TOO_LONG = _reply(500, "5.5.2 Line too long")
LOGIN_LINE_TOO_LONG = _reply(500, "5.5.6 Authentication exchange line too long")
MAIL_SYNTAX = _reply(501, "5.5.4 Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = _reply(501, "5.5.4 Syntax: RCPT TO:<address> [parameters]")
BDAT_SYNTAX = _reply(501, "5.5.4 Syntax: BDAT size [LAST]")
HELO_SYNTAX = _reply(501, "5.5.4 Syntax: EHLO hostname")
AUTH_SYNTAX = _reply(501, "5.5.4 Syntax: AUTH mechanism [initial-response]")
VRFY_SYNTAX = _reply(501, "5.5.4 Syntax: VRFY address")
NO_ARGUMENT = _reply(501, "5.5.4 This command takes no argument")
PARAMETER_SYNTAX = _reply(501, "5.5.4 Syntax error in parameters")
BAD_LOGIN_DATA = _reply(501, "5.5.2 Cannot decode the response")
NO_CHANNEL_BINDING = _reply(501, "5.5.4 Channel binding is not supported, log in without it")
LOGIN_CANCELLED = _reply(501, "5.7.0 Authentication cancelled")
NOT_IMPLEMENTED = _reply(502, "5.5.1 Command not implemented")
NO_HELO = _reply(503, "5.5.1 Send EHLO first")
NO_MAIL = _reply(503, "5.5.1 Send MAIL first")
NO_RCPT = _reply(503, "5.5.1 No valid recipients")
NESTED_MAIL = _reply(503, "5.5.1 Sender already given")
BDAT_HAS_BEGUN = _reply(503, "5.5.1 The message has begun with BDAT, send RSET first")
ALREADY_TLS = _reply(503, "5.5.1 TLS is already active")
ALREADY_AUTHENTICATED = _reply(503, "5.5.1 Already authenticated")
LOGIN_IN_TRANSACTION = _reply(503, "5.5.1 AUTH is not allowed during a mail transaction")
UNKNOWN_MECHANISM = _reply(504, "5.5.4 Authentication mechanism not supported")
LOGIN_REFUSED = _reply(535, "5.7.8 Authentication credentials invalid")
LOGIN_NEEDS_TLS = _reply(538, "5.7.11 Encryption required for authentication")
RELAYING_DENIED = _reply(550, "5.7.1 Relaying denied: this client may not send mail here")
LOGIN_NEEDED = _reply(530, "5.7.0 Authentication required")
LOGIN_MAY_NOT_SEND = _reply(550, "5.7.1 Relaying denied: this user may not send mail here")
SENDER_NOT_ALLOWED = _reply(550, "5.7.1 You may not send from this address")
RECIPIENT_NOT_ALLOWED = _reply(550, "5.7.1 You may not send to this address")
NO_LOCAL_MAILBOXES = _reply(550, "5.1.1 No local mailboxes here, use a full address")
TOO_BIG = _reply(552, "5.3.4 Message too big")
HEADER_TOO_BIG = _reply(552, "5.3.4 Header of the message is over 256 KiB")
RELEASED_TOO_LATE = _reply(501, "5.5.4 HOLDFOR or HOLDUNTIL goes beyond BY")
NEEDS_SMTPUTF8 = _reply(553, "5.6.7 Address is not ASCII and SMTPUTF8 was not given")
TOO_MANY_HOPS = _reply(554, "5.4.6 Too many Received lines: mail loop")
UNKNOWN_PARAMETER = _reply(555, "5.5.4 Parameter not recognized")
SENDER_TAKES_NO_MAIL = _reply(550, "5.7.27 The sender's domain takes no mail (null MX), and so no bounce")
RECIPIENT_TAKES_NO_MAIL = _reply(550, "5.1.10 The recipient's domain takes no mail (null MX)")
NULL_RECIPIENT = _reply(501, "5.1.3 The null address cannot be a recipient")


@lru_cache(maxsize=4)
def greeting(hostname: str) -> Reply:
    """The first line of a session."""
    return _reply(220, f"{hostname} ESMTP Relay")


@lru_cache(maxsize=16)
def hello(lines: tuple[str, ...]) -> Reply:
    """The answer to EHLO or HELO: our name, then one extension a line."""
    return Reply.of(250, lines)


def challenge(text: str) -> Reply:
    """What AUTH asks; `text` is base64. RFC 4954 section 4."""
    return _reply(334, text)


def queued(id: str) -> Reply:
    """The message is on disk and ours."""
    return Reply(250, OK.status, (f"2.0.0 queued as {id}",))


def bad_sender(problem: str) -> Reply:
    """MAIL with an address that is none."""
    return _reply(553, f"5.1.7 {problem}")


def bad_recipient(problem: str) -> Reply:
    """RCPT with an address that is none."""
    return _reply(553, f"5.1.3 {problem}")


def no_sender_domain(reason: str) -> Reply:
    """MAIL with an address that no bounce could get to."""
    return _reply(550, f"5.1.8 {reason}")


def no_recipient_domain(reason: str) -> Reply:
    """RCPT with a domain that mail can't go to."""
    return _reply(550, f"5.1.2 {reason}")


def too_many_recipients(most: int) -> Reply:
    """A message that is for all of its recipients or for none, and never will be for so many. RFC 3463 section 3.6."""
    return _reply(554, f"5.5.3 Too many recipients, {most} at most: send several messages")


def rejected(message: str) -> Reply:
    """RCPT with an address that a route of the settings rejects."""
    return _reply(550, f"5.7.1 {message}")


_OF_LIMIT = {
    Limit.MESSAGES: ("messages", "a minute"),
    Limit.RECIPIENTS: ("recipients", "24 hours"),
    Limit.NEW_RECIPIENTS: ("new recipients", "24 hours"),
}


def over_quota(found: Over) -> Reply:
    """MAIL or RCPT above a limit of the client's: never for good, a client that queues tries again."""
    what, time = _OF_LIMIT[found.limit]
    return _reply(450, f"4.7.1 Too many {what}: your limit is {found.most} in {time}, try again later")


def bad_parameter(problem: str) -> Reply:
    """MAIL or RCPT with a parameter that cannot be so."""
    return _reply(501, f"5.5.4 {problem}")


def held_too_long(latest: str) -> Reply:
    """MAIL with a time of release that is too far ahead."""
    return bad_parameter(f"Mail is not held beyond {latest}")


def received(octets: int) -> Reply:
    """A chunk of a message is in; nothing is promised yet. RFC 3030 section 2."""
    return Reply(250, OK.status, (f"2.0.0 {octets} octets received",))


def bad_content(problem: str) -> Reply:
    """A message with an octet that SMTP does not carry, or with a line that is too long."""
    return _reply(554, f"5.6.0 {problem}")


def bad_header(problem: str) -> Reply:
    """A message whose header is not as RFC 5322 has it."""
    return _reply(554, f"5.6.0 {problem}")


def author_refused(problem: str) -> Reply:
    """A message whose header names somebody for whom this client may not speak."""
    return _reply(550, f"5.7.1 Author not allowed: {printable(problem)}")


def would_fail_dmarc(domain: str, request: str, reason: str) -> Reply:
    """A message that receivers are asked to keep from its readers. RFC 7372 section 3.3."""
    what = f"{domain} asks receivers to {request} mail that fails DMARC, as this would"
    return _reply(550, f"5.7.26 {printable(f'{what} ({reason})', _MAX_TEXT - 10)}")


def wire(reply: Reply) -> bytes:
    """The reply as it goes out: ASCII only, no line over 512 octets, no control characters."""
    return _wire(reply.code, reply.lines)


@lru_cache(maxsize=128)
def _wire(code: int, lines: tuple[str, ...]) -> bytes:
    *first, last = [_line(line) for line in lines]
    text = "".join(f"{code}-{line}\r\n" for line in first) + f"{code} {last}\r\n"
    return text.encode("ascii", "replace")


def _line(text: str) -> str:
    return text if text.isprintable() and len(text) <= _MAX_TEXT else printable(text, _MAX_TEXT)


def printable(text: str, limit: int = 1000) -> str:
    """`text` from outside, fit to be shown and logged: control characters replaced, not over `limit` characters."""
    return _CONTROL.sub("\ufffd", text[:limit])
