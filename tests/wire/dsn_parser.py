"""A strict reader of delivery status notifications: what a receiver that keeps to the letter makes of our notices.

RFC 3464 (fields, their order and groups), RFC 6522 (multipart/report), RFC 6533 (UTF-8), RFC 5322 sections 2 and 3
(header fields, lines, dates), RFC 2045 (encodings). It shares no code with what it reads. Anything out of order is a
DsnError that says what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

FIELD = re.compile(r"([!-9;-~]+):(.*)\Z", re.DOTALL)
DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4}"
    r" [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}\Z"
)
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
TYPED = re.compile(rf"({ATOM}); (.+)\Z")
LOCAL = rf'(?:{ATOM}(?:\.{ATOM})*|"(?:[ !#-\[\]-~]|\\[ -~])*")'
DOMAIN = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Za-z:.]+\])"
MAILBOX = re.compile(rf"{LOCAL}@{DOMAIN}\Z")
UTF8_MAILBOX = re.compile(rf"{LOCAL}@{DOMAIN}\Z".replace("A-Za-z0-9", "A-Za-z0-9\u0080-\U0010ffff"))
UTF8_QUOTED_MAILBOX = re.compile(r'"(?:[^"\\]|\\[ -~])*"@.+\Z')
UNITEXT = re.compile(r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})+\Z")
HOLD = re.compile(
    r"(?:for;[1-9][0-9]{0,8}|until;[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?:Z|[+-]00:00))\Z",
    re.IGNORECASE,
)
STATUS = re.compile(r"([245])\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})\Z")
CLASSES = {"failed": "5", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2"}

# In the order in which RFC 3464 sections 2.2 and 2.3 and RFC 2852 section 5 give them; behind them what others add
# (section 2.4), of which one is ours.
MESSAGE_FIELDS = [
    "Original-Envelope-Id",
    "Reporting-MTA",
    "DSN-Gateway",
    "Received-From-MTA",
    "Arrival-Date",
    "Deliver-By-Date",
    "X-Relay-Queue-ID",
    "Future-Release-Request",
]
RECIPIENT_FIELDS = [
    "Original-Recipient",
    "Final-Recipient",
    "Action",
    "Status",
    "Remote-MTA",
    "Diagnostic-Code",
    "Last-Attempt-Date",
    "Final-Log-ID",
    "Will-Retry-Until",
]
ONCE = {"from", "to", "subject", "date", "message-id", "in-reply-to", "references", "mime-version", "content-type"}
NEEDED = {"from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-type"}


class DsnError(AssertionError):
    """It is no delivery status notification; the text says why."""


@dataclass(frozen=True)
class Dsn:
    """What was read. `message` and `recipients`: the fields of the report, as they are decoded."""

    header: dict[str, str]
    letter: str
    report_type: str
    message: dict[str, str]
    recipients: tuple[dict[str, str], ...]
    returned_type: str
    returned: bytes
    utf8: bool

    @property
    def words(self) -> str:
        """The letter without its line ends."""
        return " ".join(self.letter.split())


@dataclass(frozen=True)
class Part:
    type: str
    parameters: dict[str, str]
    encoding: str
    octets: bytes  # decoded


def parse_dsn(octets: bytes) -> Dsn:
    """Read a whole notice. Raises DsnError."""
    _check_lines(octets)
    head, blank, body = octets.partition(b"\r\n\r\n")
    _demand(bool(blank), "no blank line after the header")
    header = _header(head)
    utf8 = not head.isascii()
    type, parameters = _content_type(header["content-type"])
    _demand(type == "multipart/report", f"a {type}")
    _demand(parameters.get("report-type") == "delivery-status", "report-type is not delivery-status")
    whole_encoding = header.get("content-transfer-encoding", "7bit").lower()
    _demand(whole_encoding in ("7bit", "8bit"), f"a multipart in {whole_encoding}")
    _demand(body.isascii() or whole_encoding == "8bit", "8-bit octets in a message that says 7bit")
    parts = [_part(octets, whole_encoding) for octets in _split(body, parameters["boundary"])]
    _demand(len(parts) == 3, f"{len(parts)} parts")
    letter, report, returned = parts
    _demand(letter.type == "text/plain", f"the first part is {letter.type}")
    _demand(letter.parameters.get("charset", "us-ascii") in ("us-ascii", "utf-8"), "another charset")
    message, *recipients = _groups(report, utf8)
    _check_returned(returned, utf8)
    return Dsn(
        header,
        letter.octets.decode(),
        report.type,
        _message_group(message),
        tuple(_recipient_group(group, report.type) for group in recipients),
        returned.type,
        returned.octets,
        utf8,
    )


def _demand(fine: bool, wrong: str) -> None:
    if not fine:
        raise DsnError(wrong)


def _check_lines(octets: bytes) -> None:
    bare = octets.replace(b"\r\n", b"")
    _demand(b"\n" not in bare and b"\r" not in bare, "a bare CR or LF")
    _demand(b"\0" not in octets, "a NUL")
    _demand(octets.endswith(b"\r\n"), "no line end at the end")
    _demand(max(map(len, octets.split(b"\r\n"))) <= 998, "a line of more than 998 octets")  # RFC 5322 §2.1.1


def _fields(head: bytes) -> list[tuple[str, str]]:
    """Name and unfolded value of each field. RFC 5322 section 2.2."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        raise DsnError(f"not UTF-8: {error}") from None
    fields: list[tuple[str, str]] = []
    for line in text.split("\r\n"):
        # RFC 6531 §3.3 lets an address have any character beyond ASCII; nothing else needs the odd ones.
        odd = r"[\x00-\x08\x0a-\x1f\x7f]" if line.startswith("To: ") else r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]"
        _demand(not re.search(odd, line), f"a control character: {line!r}")
        if line[:1] in (" ", "\t"):
            _demand(bool(fields) and bool(line.strip()), "a folded line of blanks only, or the first one")
            fields[-1] = fields[-1][0], fields[-1][1] + line
            continue
        found = FIELD.match(line)
        _demand(found is not None, f"no header field: {line!r}")
        assert found is not None
        fields.append((found[1], found[2]))
    _demand(all(value.startswith(" ") for _, value in fields), "no blank after a colon")
    return [(name, value[1:]) for name, value in fields]


def _header(head: bytes) -> dict[str, str]:
    fields = [(name.lower(), value) for name, value in _fields(head)]
    names = [name for name, _ in fields]
    _demand(all(names.count(name) == 1 for name in ONCE & set(names)), "a field twice")
    _demand(set(names) >= NEEDED, f"without {NEEDED - set(names)}")
    header = dict(fields)
    _demand(header["mime-version"] == "1.0", "another MIME version")
    _date(header["date"])
    to = header["to"].removeprefix("<").removesuffix(">")  # section 12 of our list, defect 19: an empty To
    _demand(bool(MAILBOX.match(to) or UTF8_MAILBOX.match(to) or UTF8_QUOTED_MAILBOX.match(to)), f"To: {header['to']}")
    _demand(bool(re.fullmatch(r"<[!-;=?-~]+@[!-;=?-~]+>", header["message-id"])), "Message-ID")
    _demand(header["auto-submitted"] in ("auto-replied", "auto-generated"), "Auto-Submitted")
    for name, value in fields:
        _demand(value.isascii() or name in ("to", "subject"), f"{name} is not ASCII")
    return header


def _content_type(value: str) -> tuple[str, dict[str, str]]:
    type, *rest = (word.strip() for word in value.split(";"))
    parameters: dict[str, str] = {}
    for word in rest:
        name, equals, given = word.partition("=")
        _demand(bool(equals) and name.lower() not in parameters, f"parameter {word!r}")
        quoted = given.startswith('"') and given.endswith('"')
        _demand(quoted or bool(re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+", given)), f"parameter {word!r}")
        parameters[name.lower()] = given.strip('"')
    _demand(bool(re.fullmatch(r"[a-z0-9]+/[a-z0-9.+-]+", type.lower())), f"type {type!r}")
    return type.lower(), parameters


def _split(body: bytes, boundary: str) -> list[bytes]:
    """RFC 2046 section 5.1.1."""
    _demand(bool(re.fullmatch(r"[A-Za-z0-9'()+_,./:=?-]{1,70}", boundary)), f"boundary {boundary!r}")
    delimiter = f"\r\n--{boundary}".encode()
    preamble, *parts = (b"\r\n" + body).split(delimiter)
    _demand(preamble.isascii(), "the preamble is not ASCII")
    _demand(len(parts) > 1 and parts[-1] == b"--\r\n", "no end of the last part, or something after it")
    _demand(all(part.startswith(b"\r\n") for part in parts[:-1]), "something after a boundary")
    return [part[2:] for part in parts[:-1]]


def _part(octets: bytes, whole_encoding: str) -> Part:
    head, blank, content = (b"\r\n" + octets).partition(b"\r\n\r\n")
    _demand(bool(blank), "a part without a blank line")
    fields = [(name.lower(), value) for name, value in _fields(head[2:])]
    _demand(len(dict(fields)) == len(fields), "a field twice in a part")
    header = dict(fields)
    type, parameters = _content_type(header["content-type"])
    encoding = header.get("content-transfer-encoding", "7bit").lower()
    _demand(encoding in ("7bit", "8bit", "quoted-printable"), f"encoding {encoding}")
    _demand(encoding != "8bit" or whole_encoding == "8bit", "an 8-bit part in a 7-bit message")
    _demand(content.isascii() or encoding == "8bit", f"8-bit octets in a {type} that says {encoding}")
    if encoding == "quoted-printable":
        _demand(type.partition("/")[0] == "text" or type.startswith("message/global"), f"{type} in quoted-printable")
        content = _unquoted(content)
    return Part(type, parameters, encoding, content)


def _unquoted(octets: bytes) -> bytes:
    """RFC 2045 section 6.7."""
    for line in octets.split(b"\r\n"):
        _demand(len(line) <= 76, "a quoted-printable line over 76")
        _demand(not line.endswith((b" ", b"\t")), "a quoted-printable line ends with a blank")
        _demand(bool(re.fullmatch(rb"(?:[\t -<>-~]|=[0-9A-F]{2})*=?", line)), f"no quoted-printable: {line!r}")
    joined = octets.replace(b"=\r\n", b"")
    return re.sub(rb"=([0-9A-F]{2})", lambda found: bytes((int(found[1], 16),)), joined)


def _groups(report: Part, utf8: bool) -> list[list[tuple[str, str]]]:
    """RFC 3464 section 2.1: groups of fields with one blank line between them."""
    _demand(report.encoding != "quoted-printable", "the report is encoded")
    if report.type == "message/delivery-status":
        _demand(report.octets.isascii(), "a 7-bit report that is not")
    else:
        _demand(report.type == "message/global-delivery-status", f"the second part is {report.type}")
        _demand(utf8, "a UTF-8 report in a 7-bit message")
    _demand(report.octets.endswith(b"\r\n"), "no line end at the end of the report")
    groups = report.octets[:-2].split(b"\r\n\r\n")
    _demand(len(groups) >= 2, "no recipient")
    return [_fields(group) for group in groups]


def _in_order(group: list[tuple[str, str]], known: list[str]) -> dict[str, str]:
    names = [name for name, _ in group]
    _demand(set(names) <= set(known), f"{set(names) - set(known)} in another field's group")
    _demand(names == [name for name in known if name in names], f"order {names}")
    return dict(group)


def _message_group(group: list[tuple[str, str]]) -> dict[str, str]:
    fields = _in_order(group, MESSAGE_FIELDS)
    _demand("Reporting-MTA" in fields, "no Reporting-MTA")
    _mta(fields["Reporting-MTA"])
    for name in ("Arrival-Date", "Deliver-By-Date"):
        if name in fields:
            _date(fields[name])
    # RFC 4865 section 5.1.2 wants one with the other.
    asked = fields.get("Future-Release-Request")
    _demand(asked is None or HOLD.match(asked) is not None, f"Future-Release-Request {asked}")
    _demand(asked is None or "Arrival-Date" in fields, "Future-Release-Request without Arrival-Date")
    _demand(fields.get("Original-Envelope-Id", "x").isascii(), "Original-Envelope-Id is not ASCII")
    return fields


def _recipient_group(group: list[tuple[str, str]], report_type: str) -> dict[str, str]:
    fields = _in_order(group, RECIPIENT_FIELDS)
    for name in ("Final-Recipient", "Action", "Status"):
        _demand(name in fields, f"no {name}")
    action, status = fields["Action"], STATUS.match(fields["Status"])
    _demand(action in CLASSES, f"action {action}")
    _demand(status is not None and status[1] == CLASSES[action], f"{fields['Status']} with {action}")
    for name in ("Original-Recipient", "Final-Recipient"):
        if name in fields:
            fields[name] = _address(fields[name], report_type, strict=name == "Final-Recipient")
    if "Remote-MTA" in fields:
        _mta(fields["Remote-MTA"])
    if "Diagnostic-Code" in fields:
        _demand(TYPED.match(fields["Diagnostic-Code"]) is not None, f"Diagnostic-Code {fields['Diagnostic-Code']!r}")
    for name in ("Last-Attempt-Date", "Will-Retry-Until"):
        if name in fields:
            _date(fields[name])
    _demand("Will-Retry-Until" not in fields or action == "delayed", f"Will-Retry-Until with {action}")
    return fields


def _mta(value: str) -> None:
    found = TYPED.match(value)
    _demand(found is not None and found[1] == "dns", f"mta name {value!r}")
    assert found is not None
    _demand(bool(re.fullmatch(DOMAIN, found[2])), f"mta name {value!r}")


def _address(value: str, report_type: str, *, strict: bool) -> str:
    """`type; address`, the address out of its encoding."""
    found = TYPED.match(value)
    _demand(found is not None, f"address {value!r}")
    assert found is not None
    type, address = found[1].lower(), found[2]
    if type != "utf-8":
        _demand(address.isascii(), f"{type} with {address!r}")
        _demand(not strict or (type == "rfc822" and MAILBOX.match(address) is not None), f"address {value!r}")
        return f"{found[1]}; {address}"
    _demand(address.isascii() or report_type == "message/global-delivery-status", "UTF-8 in a 7-bit report")
    _demand(UNITEXT.match(address) is not None, f"utf-8 address {address!r}")
    decoded = re.sub(r"\\x\{([0-9A-F]+)\}", lambda point: chr(int(point[1], 16)), address)
    fine = UTF8_MAILBOX.match(decoded) or UTF8_QUOTED_MAILBOX.match(decoded)
    _demand(not strict or fine is not None, f"utf-8 address {decoded!r}")
    return f"utf-8; {decoded}"


def _date(value: str) -> datetime:
    _demand(DATE.match(value) is not None, f"date {value!r}")
    return parsedate_to_datetime(value)


def _check_returned(part: Part, utf8: bool) -> None:
    """RFC 6522 section 4, RFC 6533 section 5, RFC 2046 section 5.2.1."""
    header, blank, _ = part.octets.partition(b"\r\n\r\n")
    match part.type:
        case "text/rfc822-headers":
            _demand(part.encoding != "8bit" and not blank, "more than a header in text/rfc822-headers, or 8-bit")
        case "message/global-headers":
            _demand(utf8 and not blank, "more than a header in message/global-headers, or a 7-bit message")
            part.octets.decode()
        case "message/rfc822":
            _demand(header.isascii() and bool(blank), "message/rfc822 with a header that is not ASCII, or no body")
        case "message/global":
            _demand(part.encoding != "8bit" or utf8, "message/global in 8 bit, and the message is 7-bit")
            header.decode()
        case _:
            raise DsnError(f"the last part is {part.type}")
