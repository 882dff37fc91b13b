"""The pages of `relay client`: the table that decides who may send, and which row of it holds. Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.mail.address import Address
from relay.policy.clients import Grant, Peer
from relay.settings import Settings, format_size
from relay.submission import replies

_IMPLIED = "made of [submission]"
_QUOTAS = (
    ("messages_per_minute", "messages in a minute"),
    ("recipients_per_day", "recipients in 24 hours"),
    ("new_recipients_per_day", "new recipients in 24 hours"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: its number, from 1, and whether it is of the settings file or made of [submission]."""

    number: int
    grant: Grant
    implied: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an address may be used; `refusal` is the reply if not. `what`: sender or recipient."""

    what: str
    address: str
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which row holds for a client (None: none does), and what that says of the addresses asked about."""

    peer: Peer
    row: Row | None
    verdicts: tuple[Verdict, ...]

    @property
    def refused(self) -> bool:
        """Whether it may not send, or not that."""
        return self.row is None or any(verdict.refusal is not None for verdict in self.verdicts)


def rows(settings: Settings) -> tuple[Row, ...]:
    """The whole table, in its order, with the rows that nobody wrote."""
    written = len(settings.client)
    return tuple(Row(n, grant, n > written) for n, grant in enumerate(settings.clients.grants, 1))


def judge(
    settings: Settings, peer: Peer, senders: Sequence[Address | None], recipients: Sequence[Address]
) -> Judgement:
    """What holds for a client that is so. DNS and quotas are not asked."""
    row = next((one for one in rows(settings) if one.grant.fits(peer)), None)
    return Judgement(peer, row, tuple(_verdicts(settings, peer, row, senders, recipients)) if row is not None else ())


def _verdicts(
    settings: Settings, peer: Peer, row: Row, senders: Sequence[Address | None], recipients: Sequence[Address]
) -> Iterator[Verdict]:
    for sender in senders:
        allowed = row.grant.allows_sender(sender, peer.login)
        yield Verdict("sender", str(sender or "<>"), None if allowed else replies.SENDER_NOT_ALLOWED.text)
    for recipient in recipients:
        refusal = None if row.grant.allows_recipient(recipient) else replies.RECIPIENT_NOT_ALLOWED.text
        for sender in senders or (None,):  # a route may take no mail at all for it
            rejected = settings.routes.refusal(sender, peer.login, recipient)
            if refusal is None and rejected is not None:
                refusal = replies.rejected(rejected).text
        yield Verdict("recipient", str(recipient), refusal)


def table_as_json(table: Sequence[Row]) -> str:
    """A list of objects, in the order of the table."""
    return json.dumps([_object(row) for row in table], indent=2, ensure_ascii=False)


def judgement_as_json(found: Judgement) -> str:
    """One object."""
    answer = {
        "row": _object(found.row) if found.row is not None else None,
        "may_send": not found.refused,
        "addresses": [{"what": one.what, "address": one.address, "refusal": one.refusal} for one in found.verdicts],
    }
    return json.dumps(answer, indent=2, ensure_ascii=False)


def _object(row: Row) -> dict[str, object]:
    grant = row.grant
    return {
        "row": row.number,
        "name": grant.name,
        "implied": row.implied,
        "networks": [str(network) for network in grant.networks],
        "users": list(grant.users),
        "certificates": list(grant.certificates),
        "listeners": list(grant.listeners),
        "senders": list(grant.senders),
        "header_from": list(grant.header_from),
        "recipients": list(grant.recipients),
        "max_message_size": grant.max_message_size,
        **{name: getattr(grant.quota, name) for name, _ in _QUOTAS},
        "headers": grant.headers.value if grant.headers is not None else None,
        "line_ends": grant.line_ends.value if grant.line_ends is not None else None,
    }


def page(table: Sequence[Row]) -> str:
    """Some lines for each row, and what becomes of all the others."""
    lines: list[str] = []
    for row in table:
        lines += _lines(row)
    return "\n".join([*lines, "all others", "    may send nothing"])


def judgement_page(found: Judgement) -> str:
    """Who asks, the row that holds, and what it says of each address."""
    lines = [_who(found.peer), ""]
    if found.row is None:
        return "\n".join([*lines, "no row holds: such a client may send nothing"])
    lines += [*_lines(found.row), ""] if found.verdicts else _lines(found.row)
    lines += [f"{one.what} {one.address}: {one.refusal or 'allowed'}" for one in found.verdicts]
    return "\n".join(lines)


def _who(peer: Peer) -> str:
    words = f"a client at {peer.address}, at the listener {peer.listener}"
    words += f", with a certificate for {', '.join(peer.certificates)}" if peer.certificates else ""
    return words + (f", logged in as {peer.login}" if peer.login is not None else ", not logged in")


def _lines(row: Row) -> list[str]:
    grant = row.grant
    lines = [f"{row.number}. {grant.name}{f'  ({_IMPLIED})' if row.implied else ''}", f"    {_whom(grant)}"]
    for name, patterns in (("from", grant.senders), ("with From", grant.header_from), ("to", grant.recipients)):
        lines += [f"    {name} {', '.join(patterns)}"] * bool(patterns)
    if not grant.senders and not grant.recipients and not grant.is_for_nobody:
        lines.append("    from anyone to anyone")
    if grant.max_message_size is not None:
        lines.append(f"    messages of at most {format_size(grant.max_message_size)}")
    for name, words in _QUOTAS:
        most = getattr(grant.quota, name)
        lines += [f"    at most {most} {words}"] * (most is not None)
    if grant.headers is not None:
        lines.append(f"    headers: {grant.headers.value}")
    if grant.line_ends is not None:
        lines.append(f"    line ends: {grant.line_ends.value}")
    return lines


def _whom(grant: Grant) -> str:
    """Whom it is for, in words: all that is given must be so."""
    words = []
    if grant.networks:
        words.append(f"in {', '.join(map(str, grant.networks))}")
    if grant.users:
        everyone = "*" in grant.users
        words.append("logged in" if everyone else f"logged in as {' or '.join(grant.users)}")
    if grant.certificates:
        everyone = "*" in grant.certificates
        words.append("with a certificate" + ("" if everyone else f" for {' or '.join(grant.certificates)}"))
    if grant.listeners:
        words.append(f"at the listener {' or '.join(grant.listeners)}")
    return f"for clients {', '.join(words)}" if words else "for nobody"
