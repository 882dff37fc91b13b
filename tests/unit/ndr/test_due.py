"""Who is told of what, and when nobody is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from relay.mail.address import Address, parse_address
from relay.mail.message import Claim, InlineBody, MessageDsn, MessageId, Notify, Recipient, RecipientDsn, Ret, TlsDemand
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome, State, TlsUsed
from relay.mail.status import Kind as Class
from relay.mail.status import Reply, Status
from relay.ndr.due import FULL_LIMIT, Kind, due, returns_whole
from relay.policy.retry import SettledRecipient, Settlement

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
KEPT = Reply.of(250, ("2.0.0 kept",))
FAILED = Failed(Status(Class.PERMANENT, 1, 1), "no such user", "mx")
DEFERRED = Deferred(Status(Class.TEMPORARY, 4, 1), "connection refused", "mx")
DELIVERED = Delivered(Status(Class.SUCCESS, 0, 0), KEPT, "mx", TlsUsed.NONE)
REPORTING = Delivered(Status(Class.SUCCESS, 0, 0), KEPT, "mx", TlsUsed.NONE, dsn=True)
POSTMASTER = parse_address(b"postmaster@a.test")
N = Notify


def claim(sender: bytes | None = b"s@a.test", **fields: object) -> Claim:
    address = None if sender is None else parse_address(sender)
    body = InlineBody(b"")
    return Claim(MessageId(5), address, "b.test", (), body, NOON, 1, NOON, **fields)  # type: ignore[arg-type]


def settled(
    outcome: Outcome, notify: Notify | None = None, to: bytes = b"bob@b.test", late: bool = True, dropped: bool = False
) -> SettledRecipient:
    states = {Delivered: State.DELIVERED, Deferred: State.DEFERRED, Failed: State.FAILED}
    recipient = Recipient(0, parse_address(to), 1, 0, RecipientDsn(notify))
    state = State.DROPPED if dropped else states[type(outcome)]
    return SettledRecipient(recipient, state, outcome, None, int(late and isinstance(outcome, Deferred)))


def kinds(
    *recipients: SettledRecipient, sender: bytes | None = b"s@a.test", postmaster: Address | None = POSTMASTER
) -> list[tuple[str, str, int]]:
    found = due(claim(sender), Settlement(recipients), postmaster)
    return [(one.kind.value, str(one.to), len(one.recipients)) for one in found]


@pytest.mark.parametrize(
    ("notify", "failure", "delay", "success"),
    [
        (None, True, True, False),
        (N.NEVER, False, False, False),
        (N.SUCCESS, False, False, True),
        (N.FAILURE, True, False, False),
        (N.DELAY, False, True, False),
        (N.SUCCESS | N.FAILURE, True, False, True),
        (N.SUCCESS | N.DELAY, False, True, True),
        (N.FAILURE | N.DELAY, True, True, False),
        (N.SUCCESS | N.FAILURE | N.DELAY, True, True, True),
    ],
)
def test_notify_is_obeyed(notify: Notify | None, failure: bool, delay: bool, success: bool) -> None:
    """RFC 3461 section 4.1, for each recipient."""
    for outcome, kind, wanted in (
        (FAILED, "failure", failure),
        (DEFERRED, "delay", delay),
        (DELIVERED, "relayed", success),
    ):
        assert kinds(settled(outcome, notify)) == ([(kind, "s@a.test", 1)] if wanted else [])


def test_a_host_with_dsn_reports_itself() -> None:
    assert kinds(settled(REPORTING, N.SUCCESS)) == []


def test_one_notice_for_each_thing_that_happened() -> None:
    found = kinds(
        settled(FAILED),
        settled(DELIVERED, N.SUCCESS),
        settled(DEFERRED),
        settled(FAILED, N.FAILURE),
        settled(FAILED, N.NEVER),
        settled(REPORTING, N.SUCCESS),
        settled(DELIVERED, N.SUCCESS),
    )
    assert found == [("failure", "s@a.test", 2), ("delay", "s@a.test", 1), ("relayed", "s@a.test", 2)]


def test_nothing_happened() -> None:
    assert kinds() == []
    assert kinds(settled(DELIVERED), settled(DEFERRED, late=False)) == []


def test_what_was_dropped_is_told_to_nobody() -> None:
    assert kinds(settled(FAILED, dropped=True)) == []
    assert kinds(settled(FAILED, dropped=True), sender=None) == []


@pytest.mark.parametrize("outcome", [FAILED, DEFERRED, DELIVERED])
@pytest.mark.parametrize("notify", [None, N.SUCCESS | N.FAILURE | N.DELAY])
def test_never_to_the_null_sender(outcome: Outcome, notify: Notify | None) -> None:
    assert kinds(settled(outcome, notify), sender=None, postmaster=None) == []


def test_a_bounce_that_fails_goes_to_the_postmaster() -> None:
    """Also one that asks for no notices, as ours do: this one is not for its sender."""
    bounced = settled(FAILED, N.NEVER), settled(DEFERRED), settled(DELIVERED, N.SUCCESS), settled(FAILED)
    assert kinds(*bounced, sender=None) == [("undeliverable", "postmaster@a.test", 2)]


@pytest.mark.parametrize("sender", [b"s@a.test", None])
def test_of_a_tls_report_nobody_hears(sender: bytes | None) -> None:
    happened = settled(FAILED), settled(DEFERRED), settled(DELIVERED, N.SUCCESS)
    assert due(claim(sender, report=True), Settlement(happened), POSTMASTER) == ()


@pytest.mark.parametrize("to", [b"postmaster@a.test", b"Postmaster@A.TEST"])
def test_no_notice_about_a_notice_to_the_postmaster(to: bytes) -> None:
    assert kinds(settled(FAILED, to=to), sender=None) == []
    mixed = settled(FAILED, to=to), settled(FAILED)
    assert kinds(*mixed, sender=None) == [("undeliverable", "postmaster@a.test", 1)]
    assert kinds(settled(FAILED, to=to)) == [("failure", "s@a.test", 1)]  # mail of somebody to the postmaster


@pytest.mark.parametrize(
    ("kind", "ret", "demand", "size", "whole"),
    [
        (Kind.FAILURE, Ret.FULL, TlsDemand.DEFAULT, FULL_LIMIT, True),
        (Kind.FAILURE, Ret.FULL, TlsDemand.WAIVED, 1, True),
        (Kind.FAILURE, Ret.FULL, TlsDemand.DEFAULT, FULL_LIMIT + 1, False),
        (Kind.FAILURE, Ret.FULL, TlsDemand.REQUIRED, 1, False),
        (Kind.FAILURE, Ret.HDRS, TlsDemand.DEFAULT, 1, False),
        (Kind.FAILURE, None, TlsDemand.DEFAULT, 1, False),
        (Kind.DELAY, Ret.FULL, TlsDemand.DEFAULT, 1, False),
        (Kind.RELAYED, Ret.FULL, TlsDemand.DEFAULT, 1, False),
        (Kind.UNDELIVERABLE, Ret.FULL, TlsDemand.DEFAULT, 1, False),
    ],
)
def test_what_goes_back(kind: Kind, ret: Ret | None, demand: TlsDemand, size: int, whole: bool) -> None:
    about = Claim(
        MessageId(5), None, "", (), InlineBody(b"x" * size), NOON, 1, NOON, demand=demand, dsn=MessageDsn(ret)
    )
    assert returns_whole(kind, about) is whole
