"""What a submission server may do with a client's octets: a model of one session, written from the RFCs.

It does not say what each reply must be. It says which ones must be yes and which must be no, follows the session by the
replies that it hears, and knows to the octet what may then be stored. RFC 5321, 1870, 2920, 3207, 4954 and 8689.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from relay.mail.address import parse_address

MAX_SIZE = 1024
MAX_RECIPIENTS = 100
USER, PASSWORD = "user", "pencil"
_SMALL_LINE = 512  # RFC 5321 §4.5.3.1.4: so long a command must be taken
_LARGEST_LINE = 64 * 1024
_PATIENCE = 2  # refusals that must be borne before 421
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NAME = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,60}[A-Za-z0-9])?\Z")
_PLAIN_PATH = re.compile(rb"(?:[a-z0-9]{1,20}@[a-z0-9]{1,20}\.test)\Z")
_WEB = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"PATCH", b"DELETE", b"TRACE", b"PRI")
_PLAIN_MAIL_PARAMETERS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rb"SIZE=[0-9]{1,3}\Z", rb"BODY=(?:7BIT|8BITMIME)\Z", rb"SMTPUTF8\Z", rb"RET=(?:FULL|HDRS)\Z",
        rb"ENVID=[A-Za-z0-9]{1,20}\Z", rb"AUTH=<>\Z",
    )
)  # fmt: skip
_PLAIN_NOTIFY = re.compile(rb"NOTIFY=(?:NEVER|SUCCESS|FAILURE|DELAY|SUCCESS,FAILURE)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Heard:
    """One reply: its code and its lines, without code and CRLF."""

    code: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it may be stored: envelope, content, the word after `with`, and what was asked for it."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    protocol: str
    login: str | None
    requiretls: bool


@dataclass
class Transaction:
    """What MAIL and RCPT have said, as far as it was accepted. `recipients`: as written, by what makes them equal."""

    sender: str
    smtputf8: bool
    requiretls: bool
    recipients: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass
class Model:
    """One session. `trusted`: by its address; `tls`: at this moment; `store_fails`: the queue takes nothing."""

    trusted: bool
    tls: bool
    store_fails: bool = False
    login: str | None = None
    closed: bool = False
    shaking: bool = False  # 220 to STARTTLS was heard: what the client says next is a handshake
    commands: int = 0
    stored: list[Message] = field(default_factory=list)
    _input: bytearray = field(default_factory=bytearray)
    _line: bytes | None = None  # a command that waits for its reply
    _content: bytes | None = None  # a message that does
    _reading: bool = False  # 354 was heard
    _asked: list[bytes] | None = None  # in AUTH: the mechanism, then what was answered so far
    _helo: bytes | None = None
    _mail: Transaction | None = None
    _refusals: int = 0

    def feed(self, octets: bytes) -> None:
        """The client says this."""
        self._input += octets

    def due(self) -> bool:
        """Take the next command, or message, out of what was said; whether there is one, and so a reply to come."""
        if self.closed or self.shaking:
            return False
        if self._reading:
            end = 0 if self._input.startswith(b".\r\n") else self._input.find(b"\r\n.\r\n") + 2
            if end == 1:
                return False
            self._content = bytes(self._input[:end])
            del self._input[: end + 3]
            return True
        end = self._input.find(b"\n") + 1
        if end == 0:
            return False
        self._line = bytes(self._input[:end])
        del self._input[:end]
        self.commands += 1
        return True

    def hear(self, reply: Heard) -> None:
        """The server answers what `due` has taken. Raises AssertionError when it may not answer so."""
        if self._content is not None:
            content, self._content = self._content, None
            self._after_message(content, reply)
            return
        line, self._line = self._line, None
        assert line is not None
        if reply.code == 421:
            web = line.upper().startswith(tuple(verb + b" " for verb in _WEB)) or line.strip().upper() in _WEB
            assert web or self._refusals >= _PATIENCE, "shown out, and for nothing"
            self.closed = True
            return
        self._refusals += reply.code >= 500
        if self._asked is not None:
            self._after_answer(line, reply)
        else:
            self._after_command(line, reply)

    # Commands

    def _after_command(self, line: bytes, reply: Heard) -> None:
        if not line.endswith(b"\r\n") or _CONTROL.search(line[:-2]):
            _must_be_no(reply, "a line that is none")
            return
        if reply.code == 500 and len(line) > _LARGEST_LINE:
            self.closed = True
            return
        if reply.code == 500 and len(line) > _SMALL_LINE:
            return
        verb, _, argument = line[:-2].partition(b" ")
        argument = argument.strip(b" \t")
        match verb.upper():
            case b"EHLO" | b"HELO":
                self._after_hello(verb.upper(), argument, reply)
            case b"MAIL":
                self._after_mail(argument, reply)
            case b"RCPT":
                self._after_rcpt(argument, reply)
            case b"DATA":
                self._after_data(argument, reply)
            case b"RSET":
                _must(reply, not argument, 250)
                if reply.code == 250:
                    self._mail = None
            case b"NOOP":
                _must_be(reply, 250)
            case b"QUIT":
                _must(reply, not argument, 221)
                self.closed = reply.code == 221
            case b"STARTTLS":
                _must(reply, not argument and not self.tls, 220)
                if reply.code == 220:
                    self._forget_all()
            case b"AUTH":
                self._after_auth(argument, reply)
            case b"VRFY" | b"EXPN" | b"HELP":
                assert reply.code in (214, 250, 252) or reply.code >= 500
            case _:
                _must_be_no(reply, "a verb that nobody knows")

    def _forget_all(self) -> None:
        """RFC 3207 section 4.2: nothing that was said in clear text counts, nor what was sent along with STARTTLS."""
        self.shaking = self.tls = True
        self._helo = self._mail = self.login = None
        self._input.clear()

    def _after_hello(self, verb: bytes, argument: bytes, reply: Heard) -> None:
        if not argument:
            _must_be_no(reply, "a greeting without a name")
        elif _NAME.match(argument):
            _must_be(reply, 250)
        if reply.code == 250:
            self._helo, self._mail = verb, None

    def _after_mail(self, argument: bytes, reply: Heard) -> None:
        given = read_argument(argument, b"FROM:")
        if self._helo is None or self._mail is not None or given is None:
            _must_be_no(reply, "MAIL at the wrong time, or of another form")
            return
        path, words = given
        names = [word.partition(b"=")[0].upper() for word in words]
        size = next((word[5:] for word in words if word[:5].upper() == b"SIZE="), b"0")
        smtputf8, requiretls = b"SMTPUTF8" in names, b"REQUIRETLS" in names
        wrong = (
            len(set(names)) < len(names)
            or (words and self._helo == b"HELO")
            or (size.isdigit() and int(size) > MAX_SIZE)
            or (requiretls and not self.tls)
            or not (path.isascii() or smtputf8)
            or (path and b"@" not in path)
        )
        plain = (path == b"" or _PLAIN_PATH.match(path)) and all(
            any(form.match(word) for form in _PLAIN_MAIL_PARAMETERS) for word in words
        )
        if wrong:
            _must_be_no(reply, "MAIL with something that cannot be taken")
        elif plain:
            _must_be(reply, 250)
        if reply.code == 250:
            self._mail = Transaction(path.decode(), smtputf8, requiretls)

    def _after_rcpt(self, argument: bytes, reply: Heard) -> None:
        given = read_argument(argument, b"TO:")
        if self._mail is None or not (self.trusted or self.login) or given is None:
            _must_be_no(reply, "RCPT at the wrong time, of another form, or by a stranger")
            return
        path, words = given
        known = self._mail.recipients
        full = len(known) >= MAX_RECIPIENTS
        if not path or b"@" not in path or not (path.isascii() or self._mail.smtputf8) or (words and self._is_helo):
            _must_be_no(reply, "RCPT with something that cannot be taken")
        elif (
            _PLAIN_PATH.match(path) and not full and (not words or (len(words) == 1 and _PLAIN_NOTIFY.match(words[0])))
        ):
            _must_be(reply, 250)
        if reply.code == 250:
            address = parse_address(path)
            assert not full or (address.local, address.domain) in known, "more recipients than there may be"
            known.setdefault((address.local, address.domain), path.decode())

    @property
    def _is_helo(self) -> bool:
        return self._helo == b"HELO"

    def _after_data(self, argument: bytes, reply: Heard) -> None:
        good = not argument and self._mail is not None and bool(self._mail.recipients)
        _must(reply, good and (self.trusted or self.login is not None), 354)
        self._reading = reply.code == 354

    # The message

    def _after_message(self, raw: bytes, reply: Heard) -> None:
        self._reading = False
        mail, self._mail = self._mail, None
        assert mail is not None and mail.recipients and (self.trusted or self.login), "354 to somebody who may not send"
        lines = raw.split(b"\r\n")  # the last one is empty: every line has its end
        content = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
        bare = content.replace(b"\r\n", b"")
        if b"\r" in bare or b"\n" in bare or b"\0" in content or len(content) > MAX_SIZE:
            _must_be_no(reply, "a message with what SMTP does not carry, or too much of it")
        elif self.store_fails:
            assert 400 <= reply.code <= 499, f"{reply} when nothing was stored"
        elif content.lower().count(b"received") < MAX_RECIPIENTS:
            _must_be(reply, 250)
        if reply.code == 250:
            secure, known = "S" if self.tls else "", "A" if self.login else ""
            protocol = f"{'UTF8SMTP' if mail.smtputf8 else 'ESMTP'}{secure}{known}"
            self.stored.append(
                Message(
                    mail.sender, tuple(mail.recipients.values()), content, "SMTP" if self._is_helo else protocol,
                    self.login, mail.requiretls,
                )
            )  # fmt: skip

    # AUTH

    def _after_auth(self, argument: bytes, reply: Heard) -> None:
        words = argument.split(b" ")
        allowed = self.tls and self._helo == b"EHLO" and self.login is None and self._mail is None
        if not allowed or not words[0] or len(words) > 2:
            _must_be_no(reply, "AUTH at the wrong time, or of another form")
            return
        self._asked = [words[0].upper()]
        if len(words) == 2:
            self._note(words[1])
        elif words[0].upper() in (b"PLAIN", b"LOGIN"):
            _must_be(reply, 334)
        self._end_auth(reply)

    def _after_answer(self, line: bytes, reply: Heard) -> None:
        sound = line.endswith(b"\r\n") and not _CONTROL.search(line[:-2])
        self._note(line[:-2] if sound else b"*")
        self._end_auth(reply)

    def _note(self, answer: bytes) -> None:
        assert self._asked is not None
        self._asked.append(b"" if answer == b"=" and len(self._asked) == 1 else answer)

    def _end_auth(self, reply: Heard) -> None:
        if reply.code == 334:
            return
        asked, self._asked = self._asked or [], None
        good = _is_login(asked)
        assert (reply.code == 235) == good, f"{reply} to {asked}"
        if good:
            self.login = USER


def _is_login(asked: list[bytes]) -> bool:
    """RFC 4616 and the old LOGIN: whether this is how the one user logs in."""
    try:
        answers = [base64.b64decode(answer, validate=True).decode() for answer in asked[1:]]
    except ValueError:
        return False
    if asked[0] == b"PLAIN":
        return len(answers) == 1 and answers[0] in (f"\0{USER}\0{PASSWORD}", f"{USER}\0{USER}\0{PASSWORD}")
    return asked[0] == b"LOGIN" and answers == [USER, PASSWORD]


def _must(reply: Heard, good: bool, code: int) -> None:
    """The reply must be this when all was good, and otherwise a no."""
    if good:
        _must_be(reply, code)
    else:
        _must_be_no(reply, "at the wrong time, or of another form")


def _must_be(reply: Heard, code: int) -> None:
    assert reply.code == code, f"{reply}, and it must be {code}"


def _must_be_no(reply: Heard, why: str) -> None:
    assert reply.code >= 500, f"{reply} to {why}"


def read_argument(argument: bytes, keyword: bytes) -> tuple[bytes, list[bytes]] | None:
    """RFC 5321 section 4.1.2: the path in angle brackets, where quotes hide brackets and blanks, then words."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    rest = argument[len(keyword) :].lstrip(b" \t")
    if rest[:1] != b"<":
        return None
    at, quoted = 1, False
    while at < len(rest) and (quoted or rest[at : at + 1] != b">"):
        octet = rest[at : at + 1]
        if quoted and octet == b"\\":
            at += 1
        elif octet == b'"':
            quoted = not quoted
        elif not quoted and octet in b"< \t":
            return None
        at += 1
    if at >= len(rest):
        return None
    after = rest[at + 1 :]
    if after and after[:1] not in b" \t":
        return None
    return rest[1:at], after.split()
