"""Mail that is to be held when it comes in: rules that operators make, and whether one fits. Rows in, values out."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from relay.mail.address import Address
from relay.mail.message import NewMessage
from relay.queue.pattern import AddressPattern, parse_domain_pattern, parse_pattern
from relay.queue.rows import from_micros, storable, to_micros


@dataclass(frozen=True, slots=True)
class HoldRule:
    """New mail is held when all that is given fits. `id`: 0 until it is stored."""

    sender: AddressPattern | None
    recipient: AddressPattern | None
    domain: AddressPattern | None
    login: str | None
    reason: str
    made: datetime
    id: int = 0

    def __post_init__(self) -> None:
        if self.sender is None and self.recipient is None and self.domain is None and self.login is None:
            raise ValueError("a rule needs a sender, a recipient, a domain or a login")

    def holds(self, sender: Address | None, login: str | None, recipient: Address) -> bool:
        """Whether mail from `sender` (None: the null sender), sent under `login`, waits for `recipient` from now on."""
        return (
            (self.sender is None or self.sender.matches(sender))
            and (self.recipient is None or self.recipient.matches(recipient))
            and (self.domain is None or self.domain.matches(recipient))
            and (self.login is None or self.login == login)
        )

    @property
    def hold(self) -> str:
        """What is written down as the reason with the mail that it holds."""
        return f"hold rule {self.id}: {self.reason}"


def load_hold_rules(connection: sqlite3.Connection) -> tuple[HoldRule, ...]:
    """All rules, the oldest first."""
    rows = connection.execute("SELECT sender, recipient, domain, login, reason, made, id FROM hold_rule ORDER BY id")
    return tuple(
        HoldRule(
            None if sender is None else parse_pattern(sender),
            None if recipient is None else parse_pattern(recipient),
            None if domain is None else parse_domain_pattern(domain),
            login,
            reason,
            from_micros(made),
            id,
        )
        for sender, recipient, domain, login, reason, made, id in rows
    )


def any_hold_rule(connection: sqlite3.Connection) -> bool:
    """Whether there are rules at all."""
    return connection.execute("SELECT 1 FROM hold_rule LIMIT 1").fetchone() is not None


def held(connection: sqlite3.Connection, message: NewMessage) -> dict[int, str]:
    """Which recipients of a message that comes in are held, by place in the envelope, and why."""
    rules = load_hold_rules(connection)
    found: dict[int, str] = {}
    sender, login = message.envelope.sender, message.login
    for number, recipient in enumerate(message.envelope.recipients):
        rule = next((rule for rule in rules if rule.holds(sender, login, recipient)), None)
        if rule is not None:
            found[number] = rule.hold
    return found


def add_hold_rule(connection: sqlite3.Connection, rule: HoldRule) -> int:
    """Store a rule. Returns its id."""
    values = (
        None if rule.sender is None else storable(str(rule.sender)),
        None if rule.recipient is None else storable(str(rule.recipient)),
        None if rule.domain is None else storable(rule.domain.domain or "*"),
        storable(rule.login),
        storable(rule.reason),
        to_micros(rule.made),
    )
    sql = "INSERT INTO hold_rule (sender, recipient, domain, login, reason, made) VALUES (?, ?, ?, ?, ?, ?)"
    return connection.execute(sql, values).lastrowid or 0


def remove_hold_rule(connection: sqlite3.Connection, id: int) -> bool:
    """Remove a rule; what it has held stays held. False: there is none of that number."""
    return connection.execute("DELETE FROM hold_rule WHERE id = ?", (id,)).rowcount > 0
