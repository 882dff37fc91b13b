"""The part for programs: message/delivery-status, or message/global-delivery-status.

RFC 3464 section 2 (fields, their order and grouping), RFC 3461 section 6.3 (what comes from ENVID and ORCPT),
RFC 6533 sections 3 and 4 (UTF-8 addresses and reports), RFC 2852 section 5 and RFC 4865 section 5.1.2 (what was asked
of time).
"""

from __future__ import annotations

import re
import textwrap
from email.utils import format_datetime

from relay.mail.address import Address
from relay.mail.message import Claim
from relay.mail.outcome import Dropped, Failed, Outcome
from relay.mail.status import Kind as StatusKind
from relay.mail.status import Status
from relay.mail.xtext import decode_utf8_address, decode_xtext, encode_utf8_address
from relay.ndr.due import Due, Kind, Stamp
from relay.ndr.text import one_line
from relay.policy.retry import SettledRecipient

_LONGEST_FIELD = 900  # octets; RFC 5322 §2.1.1 allows lines of 998
_ATOM = re.compile(r"[!-~]+\Z")
_LONG_WORD = re.compile(r"([^ ]{200})(?=[^ ])")

# RFC 5321 basic codes for conditions that we found ourselves; the TLS ones are those that Exchange Online sends.
_BASIC_CODES = {(7, 4): 551, (7, 5): 551, (7, 6): 551, (4, 8): 551, (1, 10): 556}

# RFC 3464 §2.3.3, and §2.3.4: the class of the status agrees with the action.
_ACTIONS = {
    Kind.FAILURE: ("failed", StatusKind.PERMANENT),
    Kind.UNDELIVERABLE: ("failed", StatusKind.PERMANENT),
    Kind.DELAY: ("delayed", StatusKind.TEMPORARY),
    Kind.RELAYED: ("relayed", StatusKind.SUCCESS),
}

OVERDUE_4_4_7 = Status(StatusKind.TEMPORARY, 4, 7)  # RFC 2852 §4.1.3

Fields = list[tuple[str, str]]


def report_part(due: Due, claim: Claim, stamp: Stamp) -> bytes:
    """The part with its MIME header. In UTF-8 only when the one who gets it has an address that is."""
    utf8 = due.to.needs_smtputf8
    blocks = [_message_fields(claim, stamp), *(_recipient_fields(due.kind, one, stamp, utf8) for one in due.recipients)]
    octets = "\r\n".join("".join(_field(name, value) for name, value in block) for block in blocks).encode()
    if octets.isascii():
        return b"Content-Type: message/delivery-status\r\n\r\n" + octets
    return b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + octets


def status_of(kind: Kind, settled: SettledRecipient) -> Status:
    """The status that a notice of this kind gives. Raises TypeError for an outcome that it cannot speak of."""
    outcome = settled.outcome
    if kind is Kind.DELAY and settled.overdue:
        return OVERDUE_4_4_7
    if isinstance(outcome, Dropped) or outcome.status.kind is not _ACTIONS[kind][1]:
        raise TypeError(f"an outcome {outcome.status} has no place in a notice of kind {kind.value}")
    return outcome.status


def basic_code(outcome: Outcome) -> int:
    """The reply code that goes with a failure: the remote server's, or ours for what we found ourselves."""
    if outcome.reply is not None and outcome.reply.code >= 500:
        return outcome.reply.code
    return _BASIC_CODES.get((outcome.status.subject, outcome.status.detail), 550)


def _message_fields(claim: Claim, stamp: Stamp) -> Fields:
    fields = [
        ("Reporting-MTA", f"dns; {stamp.hostname}"),
        ("Arrival-Date", format_datetime(claim.arrived)),
    ]
    if claim.deliver_by is not None:
        fields.append(("Deliver-By-Date", format_datetime(claim.deliver_by.time)))
    fields.append(("X-Relay-Queue-ID", str(claim.id)))
    if claim.release_request is not None:
        fields.append(("Future-Release-Request", claim.release_request))
    if claim.dsn.envid is not None:  # RFC 3464 §2.2.1: as it was before it was put into xtext
        fields.insert(0, ("Original-Envelope-Id", _decoded_envid(claim.dsn.envid)))
    return fields


def _decoded_envid(envid: str) -> str:
    try:
        return decode_xtext(envid)
    except ValueError:  # submission takes none such
        return _ascii(envid)


def _recipient_fields(kind: Kind, settled: SettledRecipient, stamp: Stamp, utf8: bool) -> Fields:
    outcome, recipient = settled.outcome, settled.recipient
    fields = [
        ("Final-Recipient", _final_recipient(recipient.address, utf8)),
        ("Action", _ACTIONS[kind][0]),
        ("Status", str(status_of(kind, settled))),
    ]
    original = _original_recipient(recipient.dsn.orcpt, utf8) if recipient.dsn.orcpt is not None else None
    if original is not None:
        fields.insert(0, ("Original-Recipient", original))
    if outcome.host is not None:
        fields.append(("Remote-MTA", f"dns; {_ascii(outcome.host)}"))
    diagnosis = _diagnosis(kind, settled)
    fields.append(("Diagnostic-Code", diagnosis if utf8 else _ascii(diagnosis)))
    if stamp.tried:
        fields.append(("Last-Attempt-Date", format_datetime(stamp.now)))
    if kind is Kind.DELAY and settled.expires is not None:  # RFC 3464 §2.3.9: in no other report
        fields.append(("Will-Retry-Until", format_datetime(settled.expires)))
    return fields


def _diagnosis(kind: Kind, settled: SettledRecipient) -> str:
    """The remote server's words, or our own. RFC 3464 section 2.3.6."""
    outcome = settled.outcome
    if outcome.reply is not None:
        return f"smtp; {one_line(outcome.reply.text)}"
    code = f"{basic_code(outcome)} " if isinstance(outcome, Failed) else ""
    return f"x-relay; {code}{status_of(kind, settled)} {one_line(outcome.reason)}"


def _final_recipient(address: Address, utf8: bool) -> str:
    """RFC 3464 section 2.3.2; RFC 6533 section 3 for what rfc822 cannot hold. The domain in A-labels, as DNS has it."""
    mailbox = f"{address.local}@{address.domain}"
    return (
        f"utf-8; {encode_utf8_address(mailbox, seven_bit=not utf8)}" if address.needs_smtputf8 else f"rfc822; {mailbox}"
    )


def _original_recipient(orcpt: str, utf8: bool) -> str | None:
    """RFC 3464 section 2.3.1, from ORCPT: out of its encoding, and where it must be into the one of this report."""
    kind, _, encoded = orcpt.partition(";")
    try:
        if kind.lower() == "utf-8":
            address = encode_utf8_address(decode_utf8_address(encoded), seven_bit=not utf8)
        else:
            address = decode_xtext(encoded)
    except ValueError:  # submission takes none such
        return None
    fits = len(address.encode()) <= _LONGEST_FIELD  # it cannot be folded
    return f"{kind}; {address}" if fits and _ATOM.match(kind) and address.strip(" ") else None


def _field(name: str, value: str) -> str:
    """One field. Free text is folded at blanks (RFC 5322 section 2.2.3); an address is left whole."""
    line = f"{name}: {value}"
    if name != "Diagnostic-Code":
        return f"{line}\r\n"
    line = _LONG_WORD.sub(r"\1 ", line)
    lines = textwrap.wrap(line, 76, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
    return "".join(f"{part}\r\n" for part in lines)


def _ascii(text: str) -> str:
    """RFC 3464 section 2.1.2: the report is 7-bit; what does not fit is shown as a question mark."""
    return one_line(text).encode("ascii", "replace").decode()
