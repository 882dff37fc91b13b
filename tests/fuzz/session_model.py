"""What a submission server may do with a client's octets: a model of one session, written from the RFCs.

It does not say what each reply must be. It says which ones must be yes and which must be no, follows the session by the
replies that it hears, and knows to the octet what may then be stored. RFC 5321, 1870, 2920, 3030, 3207, 4954 and 8689.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from session_header import has_one_author
from session_reading import USER, is_login, is_sound, read_argument

from relay.mail.address import parse_address

MAX_SIZE = 1024
MAX_HOPS = 100
MAX_RECIPIENTS = 100
_SMALL_LINE = 512  # RFC 5321 §4.5.3.1.4: so long a command must be taken
_LARGEST_LINE = 64 * 1024
_PATIENCE = 2  # refusals that must be borne before 421
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
_CHUNK = re.compile(rb"BDAT [ \t]*([0-9]{1,20})(?:[ \t]+(.*?))?[ \t]*\r\n\Z", re.IGNORECASE)  # RFC 3030 §2
_LONGEST_COMMAND = 2048  # a longer one is not looked at, so that nobody knows what its BDAT would have said
_MAYBE_CHUNK = re.compile(rb"[\x00-\x20]*BDAT(?:[\x00-\x20\x7f-\xff]|\Z)", re.IGNORECASE)
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
    """One session. `trusted`: by its address; `store_fails`: the queue takes nothing; `fixed`: headers are made right.

    `tls_first`: there is TLS from the first octet; `tls`: at this moment.
    """

    trusted: bool
    tls_first: bool
    store_fails: bool = False
    fixed: bool = False
    tls: bool = False
    login: str | None = None
    closed: bool = False
    shaking: bool = False  # 220 to STARTTLS was heard: what the client says next is a handshake
    commands: int = 0
    stored: list[Message] = field(default_factory=list)
    _input: bytearray = field(default_factory=bytearray)
    _line: bytes | None = None  # a command that waits for its reply
    _content: bytes | None = None  # a message, or a chunk of one, that does
    _chunk: int | None = None  # octets that belong to a BDAT
    _chunks: bytes | None = None  # what BDAT has brought of a message so far
    _leaving: bool = False  # the count of octets is lost, and the server says so
    _reading: bool = False  # 354 was heard
    _asked: list[bytes] | None = None  # in AUTH: the mechanism, then what was answered so far
    _helo: bytes | None = None
    _mail: Transaction | None = None
    _refusals: int = 0

    def __post_init__(self) -> None:
        self.tls = self.tls_first

    def feed(self, octets: bytes) -> None:
        """The client says this."""
        self._input += octets

    def due(self) -> bool:
        """Take the next command, or message, out of what was said; whether there is one, and so a reply to come."""
        if self.closed or self.shaking:
            return False
        if self._leaving:
            return True
        if self._chunk is not None:
            return self._take_chunk(self._chunk)
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
        found = _CHUNK.match(self._line)
        if found is None or self._asked is not None or not is_sound(self._line) or len(self._line) > _LONGEST_COMMAND:
            return True
        self._chunk = int(found[1])
        if self._chunk > MAX_SIZE and not self._takes_chunk(found):
            self._leaving = True  # nobody makes a server read for ever
            return True
        return self._take_chunk(self._chunk)

    def _take_chunk(self, size: int) -> bool:
        """RFC 3030 section 2: the octets come right behind the command, and one reply to both."""
        if len(self._input) < size:
            return False
        self._content = bytes(self._input[:size])
        del self._input[:size]
        self._chunk = None
        return True

    def hear(self, reply: Heard) -> None:
        """The server answers what `due` has taken. Raises AssertionError when it may not answer so."""
        if self._leaving:
            assert reply.code == 421, reply
            self.closed = True
            return
        content, self._content = self._content, None
        line, self._line = self._line, None
        if content is not None and line is None:
            self._after_message(content, reply)
            return
        assert line is not None
        if reply.code == 421:
            web = line.upper().startswith(tuple(verb + b" " for verb in _WEB)) or line.strip().upper() in _WEB
            assert web or self._refusals >= _PATIENCE, "shown out, and for nothing"
            self.closed = True
            return
        self._refusals += reply.code >= 500
        if self._asked is not None:
            self._after_answer(line, reply)
        elif content is not None:
            self._after_chunk(_CHUNK.match(line), content, reply)
        else:
            self._after_command(line, reply)

    # Commands

    def _after_command(self, line: bytes, reply: Heard) -> None:
        if reply.code == 500 and len(line) > _LARGEST_LINE:
            self.closed = True
            return
        if _MAYBE_CHUNK.match(line):
            # How many octets follow cannot be known: they must not become commands.
            _must_be_no(reply, "BDAT without a size")
            self._leaving = True
            return
        if not is_sound(line):
            _must_be_no(reply, "a line that is none")
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
                    self._mail = self._chunks = None
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
        self._helo = self._mail = self._chunks = self.login = None
        self._input.clear()

    def _after_hello(self, verb: bytes, argument: bytes, reply: Heard) -> None:
        if not argument:
            _must_be_no(reply, "a greeting without a name")
        elif _NAME.match(argument):
            _must_be(reply, 250)
        if reply.code == 250:
            self._helo, self._mail, self._chunks = verb, None, None

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
        if self._mail is None or not (self.trusted or self.login) or given is None or self._chunks is not None:
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
        _must(reply, not argument and self._may_come and self._chunks is None, 354)
        self._reading = reply.code == 354

    # The message

    @property
    def _may_come(self) -> bool:
        """Whether a message may."""
        may_send = self.trusted or self.login is not None
        return may_send and self._mail is not None and bool(self._mail.recipients)

    def _after_message(self, raw: bytes, reply: Heard) -> None:
        self._reading = False
        lines = raw.split(b"\r\n")  # the last one is empty: every line has its end
        self._judge(b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines), reply)

    def _takes_chunk(self, said: re.Match[bytes]) -> bool:
        """Whether there is a message for it."""
        return self._may_come and (not said[2] or said[2].upper() == b"LAST")

    def _after_chunk(self, said: re.Match[bytes] | None, octets: bytes, reply: Heard) -> None:
        assert said is not None
        last = said[2] is not None and said[2].upper() == b"LAST"
        if not self._takes_chunk(said):
            _must_be_no(reply, "BDAT at the wrong time, or of another form")
            return
        self._chunks = (self._chunks or b"") + octets
        if last:
            content, self._chunks = self._chunks, None
            # With DATA a message could not leave without a CRLF at its end.
            self._judge(content if content.endswith(b"\r\n") or not content else content + b"\r\n", reply)
        elif reply.code != 250:
            bad = self.fixed or self._is_bad(self._chunks.removesuffix(b"\r"))
            assert bad or self.store_fails, f"{reply} to a good chunk"
            self._mail = self._chunks = None  # RFC 3030 §2: the message has failed

    @staticmethod
    def _is_bad(content: bytes) -> bool:
        """Whether SMTP does not carry it, or it is too much, or perhaps has come round too often."""
        bare = content.replace(b"\r\n", b"")
        wrong = b"\r" in bare or b"\n" in bare or b"\0" in content
        return wrong or len(content) > MAX_SIZE or content.lower().count(b"received") > MAX_HOPS

    def _judge(self, content: bytes, reply: Heard) -> None:
        """The answer to a whole message."""
        mail, self._mail = self._mail, None
        assert mail is not None and mail.recipients and (self.trusted or self.login), "354 to somebody who may not send"
        if self.fixed and not has_one_author(content):
            _must_be_no(reply, "a header with too many authors")
        elif self._is_bad(content):
            maybe = content.lower().count(b"received") > MAX_HOPS
            assert maybe or reply.code >= 500, f"{reply} to what SMTP does not carry, or too much of it"
        elif self.store_fails:
            assert 400 <= reply.code <= 499, f"{reply} when nothing was stored"
        else:
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
        self._note(line[:-2] if is_sound(line) else b"*")
        self._end_auth(reply)

    def _note(self, answer: bytes) -> None:
        assert self._asked is not None
        self._asked.append(b"" if answer == b"=" and len(self._asked) == 1 else answer)

    def _end_auth(self, reply: Heard) -> None:
        if reply.code == 334:
            return
        asked, self._asked = self._asked or [], None
        good = is_login(asked)
        assert (reply.code == 235) == good, f"{reply} to {asked}"
        if good:
            self.login = USER


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
