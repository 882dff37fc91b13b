"""Each kind of stuck message is explained by its page alone: what `relay queue show` says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.mail.message import DeliverBy, MessageDsn, MessageId, Notify, Origin, RecipientDsn, Ret, TlsDemand
from relay.mail.outcome import Cause, State, TlsUsed
from relay.mail.record import AttemptRecord, HostRecord
from relay.policy.limits import DestinationLimits, LimitEntry
from relay.policy.retry import Schedule, Schedules
from relay.queue.history import ActEntry, AttemptEntry, MessageTrace, Result
from relay.queue.store import QueueEntry, Rest
from relay.waiting import Scene, page, why

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

DEFERRED = QueueEntry(
    MessageId(1), "abc@sender.example", "from@sender.example", "bob@example.org", "example.org", State.DEFERRED, 3,
    "4.4.1", None, "mx.example.org [192.0.2.1]: connection refused", "mx.example.org", TlsUsed.NONE, NOW + 5 * MINUTE,
    NOW - HOUR, NOW - 25 * MINUTE, destination="example.org", cause=Cause.OUTAGE,
    rule="retry.outage_schedule, wait 3 of 6: 30m", review=NOW + 3 * HOUR,
)  # fmt: skip
QUEUED = replace(
    DEFERRED, state=State.QUEUED, attempts=0, status=None, reason=None, host=None, cause=None, rule=None, review=None,
    next_attempt=NOW - MINUTE,
)  # fmt: skip
HELD = replace(DEFERRED, state=State.HELD, next_attempt=None, hold="under attack")
REST = Rest(NOW + 5 * MINUTE, NOW - 55 * MINUTE, 5, "4.4.1", "mx.example.org: connection refused")
DAY = 24 * HOUR
SCHEDULES = Schedules(
    Schedule((MINUTE,), 5 * DAY),
    {Cause.OUTAGE: Schedule((MINUTE,), 2 * DAY, "retry.outage_schedule", "retry.outage_expire")},
    (4 * HOUR, 24 * HOUR),
)
ORIGIN = Origin("192.0.2.8", "users", "people")
RUNNING = Scene(NOW, {}, service=True, schedules=SCHEDULES)


def message(
    *recipients: QueueEntry, acts: tuple[ActEntry, ...] = (), sender: str = "from@sender.example"
) -> MessageTrace:
    return MessageTrace(
        MessageId(1), "abc@sender.example", sender, 4321, TlsDemand.DEFAULT, NOW - HOUR, None, recipients, (), acts
    )


def lines(*recipients: QueueEntry, scene: Scene = RUNNING, acts: tuple[ActEntry, ...] = ()) -> list[str]:
    return [line.strip() for line in page(message(*recipients, acts=acts), scene).splitlines()]


def test_a_whole_page() -> None:
    act = ActEntry(0, "retry", NOW - 30 * MINUTE, "root", None)
    host = HostRecord("mx.example.org", "192.0.2.1", "nothing", "opportunistic", "", "connection refused", ("> x",))
    result = Result((0,), State.DEFERRED, "4.4.1", "x", None, "mx.example.org", TlsUsed.NONE, NOW + 5 * MINUTE)
    began = NOW - 25 * MINUTE
    attempt = AttemptEntry(
        "example.org",
        3,
        began,
        began + timedelta(seconds=2),
        (result,),
        (),
        AttemptRecord(("MTA-STS: no policy",), (host,)),
    )
    trace = replace(
        message(DEFERRED, acts=(act,)),
        attempts=(attempt,),
        login="jo",
        origin=ORIGIN,
        dsn=MessageDsn(Ret.HDRS, "QQ314159"),
    )
    assert (
        page(trace, replace(RUNNING, rests={"example.org": REST}))
        == """\
0000000000001  from@sender.example -> 1 recipient
  Message-ID:    <abc@sender.example>
  arrived:       2030-01-01 11:00:00 UTC, 60 min ago
  from:          192.0.2.8, logged in as jo, at the listener users, by people
  size:          4321 octets
  TLS:           what the recipients' domains ask
  asked:         RET=HDRS ENVID=QQ314159

bob@example.org
  state:         deferred since 2030-01-01 11:35:00 UTC, tried 3 times
  waits because: example.org rests: mx.example.org: connection refused (outage)
  last result:   4.4.1 mx.example.org [192.0.2.1]: connection refused (host mx.example.org, TLS none)
  next attempt:  2030-01-01 12:05:00 UTC, in 5 min
  by the rule:   retry.outage_schedule, wait 3 of 6: 30m
  expires:       2030-01-03 11:00:00 UTC, in 47 h (retry.outage_expire: 2d); its sender is told that it is late \
2030-01-01 15:00:00 UTC
  what to do:    `relay explain example.org --connect` shows whether they are up; `relay queue retry 0000000000001` \
does not wait for the next attempt
  goes to:       the mail hosts of example.org
  rest:          nothing is tried at example.org before 2030-01-01 12:05:00 UTC, in 5 min: it was down 5 times in a \
row since 2030-01-01 11:05:00 UTC, last with 4.4.1 mx.example.org: connection refused; \
`relay queue retry 0000000000001` ends the rest
  notices:       from@sender.example hears of failure and delay, as nothing was asked
  operator:      made due by root, 2030-01-01 11:30:00 UTC

last attempt: number 3 for example.org, 2030-01-01 11:35:00 UTC, took 2.0 s
  MTA-STS: no policy
  mx.example.org [192.0.2.1]: connection refused
    required: nothing

`relay trace 0000000000001` has every attempt, with what was said
"""
    )


@pytest.mark.parametrize(
    ("entry", "scene", "wanted"),
    [
        (QUEUED, RUNNING, "it was not tried yet: other mail is before it"),
        (QUEUED, replace(RUNNING, service=False), "no service runs: nothing is tried before it is started"),
        (replace(QUEUED, next_attempt=NOW + MINUTE), RUNNING, "its time has not come"),
        (
            QUEUED,
            replace(RUNNING, rests={"example.org": REST}),
            "example.org rests: mx.example.org: connection refused",
        ),
        (
            replace(QUEUED, destination="route:backup"),
            replace(RUNNING, rests={"example.org": REST}),
            "it was not tried yet: other mail is before it",
        ),
        (
            QUEUED,
            replace(RUNNING, rests={"example.org": replace(REST, until=NOW)}),
            "it was not tried yet: other mail is before it",
        ),
        (replace(QUEUED, attempts=1, next_attempt=None), RUNNING, "attempt 1 is being made at this moment"),
        (
            replace(QUEUED, attempts=1, next_attempt=None),
            replace(RUNNING, service=False),
            "attempt 1 was cut short when the service ended: the next start tries it again",
        ),
        (HELD, RUNNING, "it is held: under attack"),
        (replace(HELD, hold=None), RUNNING, "it is held: no reason was given"),
        (replace(DEFERRED, cause=None), RUNNING, "mx.example.org [192.0.2.1]: connection refused"),
        (replace(DEFERRED, state=State.DELIVERED, next_attempt=None), RUNNING, "mx.example.org took it"),
        (replace(DEFERRED, state=State.FAILED, next_attempt=None), RUNNING, "it failed for good"),
        (replace(DEFERRED, state=State.DROPPED, next_attempt=None), RUNNING, "it was dropped and nobody was told"),
    ],
)
def test_why(entry: QueueEntry, scene: Scene, wanted: str) -> None:
    assert why(entry, scene).startswith(wanted)


@pytest.mark.parametrize("cause", list(Cause), ids=lambda cause: cause.value)
def test_every_cause_has_plain_words(cause: Cause) -> None:
    (line,) = [line for line in lines(replace(DEFERRED, cause=cause)) if line.startswith("waits because:")]
    assert line.endswith(f" ({cause.value})")
    assert len(line) > 40


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (HELD, "next attempt:  none, until `relay queue release 0000000000001`"),
        (replace(DEFERRED, next_attempt=NOW - MINUTE), "next attempt:  2030-01-01 11:59:00 UTC, due now"),
        (replace(DEFERRED, reply="451 4.7.1 \x1b[31mcome later"), "host said:     451 4.7.1 ?[31mcome later"),
        (
            replace(DEFERRED, delay_notices=1),
            "expires:       2030-01-03 11:00:00 UTC, in 47 h (retry.outage_expire: 2d);"
            " its sender is told that it is late 2030-01-02 11:00:00 UTC",
        ),
        (
            replace(DEFERRED, delay_notices=2),
            "expires:       2030-01-03 11:00:00 UTC, in 47 h (retry.outage_expire: 2d)",
        ),
        (
            replace(DEFERRED, cause=None, dsn=RecipientDsn(Notify.FAILURE)),
            "expires:       2030-01-06 11:00:00 UTC, in 5 days (retry.expire: 5d)",
        ),
        (
            replace(DEFERRED, arrived=NOW - 9 * DAY, delay_notices=2),
            "expires:       2029-12-25 12:00:00 UTC, overdue (retry.outage_expire: 2d)",
        ),
        (
            replace(DEFERRED, destination="route:backup", route="backup"),
            "goes to:       the route backup, chosen for it: backup",
        ),
        (replace(DEFERRED, route="direct"), "goes to:       the mail hosts of example.org, chosen for it: direct"),
        (
            replace(DEFERRED, dsn=RecipientDsn(Notify.NEVER)),
            "notices:       from@sender.example hears of nothing (NOTIFY=NEVER)",
        ),
        (
            replace(DEFERRED, dsn=RecipientDsn(Notify.SUCCESS | Notify.DELAY, "rfc822;b@x.example"), delay_notices=1),
            "notices:       from@sender.example hears of success and delay (NOTIFY=SUCCESS,DELAY),"
            " ORCPT=rfc822;b@x.example; told 1 time that it is late",
        ),
    ],
)
def test_a_line_of_the_page(entry: QueueEntry, wanted: str) -> None:
    assert wanted in lines(entry)


@pytest.mark.parametrize("cause", list(Cause), ids=lambda cause: cause.value)
def test_every_cause_says_what_to_do(cause: Cause) -> None:
    assert any(line.startswith("what to do:") for line in lines(replace(DEFERRED, cause=cause)))


@pytest.mark.parametrize(
    ("entry", "scene", "wanted"),
    [
        # What the host said itself is no failure to reach it.
        (
            replace(DEFERRED, reply="451 4.3.0 queue file write error"),
            RUNNING,
            "waits because: the host answers, and says that it is in trouble itself (outage)",
        ),
        (
            replace(DEFERRED, cause=Cause.LOGIN, reply=None, destination="route:smart"),
            RUNNING,
            "waits because: there is no login for the next hop that could be used (login)",
        ),
        (
            replace(DEFERRED, cause=Cause.LOGIN, reply="535 5.7.8 no", destination="route:smart"),
            RUNNING,
            "what to do:    mend the login of [[route]] smart; its file is read anew at each attempt; then"
            " `relay queue retry 0000000000001`",
        ),
        (
            replace(DEFERRED, destination="route:smart"),
            RUNNING,
            "what to do:    `relay explain example.org --connect` shows whether they are up; "
            "`relay queue retry 0000000000001` does not wait for the next attempt",
        ),
        (
            HELD,
            RUNNING,
            "what to do:    `relay queue release 0000000000001` sends it; `relay queue fail` and `relay queue drop`"
            " end it",
        ),
        (
            replace(HELD, cause=Cause.UNKNOWN),
            RUNNING,
            "what to do:    ask the recipient whether it came; `relay queue release 0000000000001` sends it; `relay"
            " queue fail` and `relay queue drop` end it",
        ),
        (
            replace(DEFERRED, cause=Cause.TLS_POLICY, reply="530 5.7.0 STARTTLS first"),
            RUNNING,
            "what to do:    `relay explain example.org --connect` shows what TLS with it comes to; when that is mended:"
            " `relay queue retry 0000000000001`",
        ),
        # Mail that was never tried waits for what its destination rests for, and that can be mended too.
        (
            replace(QUEUED, destination="route:smart"),
            replace(RUNNING, rests={"route:smart": replace(REST, reason="refused the login", cause="login")}),
            "waits because: route:smart rests: refused the login (login)",
        ),
        (
            replace(DEFERRED, cause=Cause.GREYLISTING, reply="451 4.7.1 come again", destination="route:smart"),
            replace(RUNNING, rests={"route:smart": replace(REST, reason="refused the login", cause="login")}),
            "what to do:    mend the login of [[route]] smart; its file is read anew at each attempt; then"
            " `relay queue retry 0000000000001`",
        ),
        # A rest counts, not the time that the message would be due without it.
        (
            QUEUED,
            replace(RUNNING, rests={"example.org": REST}),
            "next attempt:  2030-01-01 12:05:00 UTC, in 5 min, when the rest ends",
        ),
        (
            QUEUED,
            replace(RUNNING, limits=DestinationLimits(entries=[LimitEntry(("example.org",), per_minute=1)])),
            "next attempt:  2030-01-01 11:59:00 UTC, due now: example.org gets 1 message a minute ([[destination]])",
        ),
        (
            DEFERRED,
            replace(RUNNING, service=False),
            "service:       none runs: nothing is tried, and nothing expires, before it is started",
        ),
    ],
)
def test_what_an_operator_must_not_guess(entry: QueueEntry, scene: Scene, wanted: str) -> None:
    assert wanted in lines(entry, scene=scene)


def test_who_held_it_and_why_and_only_for_this_recipient() -> None:
    acts = (ActEntry(1, "hold", NOW - MINUTE, "ops", "under attack"),)
    shown = lines(DEFERRED, replace(HELD, number=1), acts=acts)
    assert shown.count("operator:      held by ops: under attack, 2030-01-01 11:59:00 UTC") == 1
    assert shown.index("operator:      held by ops: under attack, 2030-01-01 11:59:00 UTC") > shown.index("")


def test_what_is_closed_has_no_next_step() -> None:
    shown = lines(replace(DEFERRED, state=State.FAILED, next_attempt=None, status="5.7.1", review=None, rule=None))
    assert not [line for line in shown if line.startswith(("next attempt", "goes to", "rest", "expires"))]


def test_recipients_with_the_same_to_say_say_it_once() -> None:
    others = [replace(DEFERRED, recipient=f"{name}@example.org", number=number) for number, name in enumerate("xyz", 1)]
    shown = lines(DEFERRED, others[0], replace(others[1], cause=Cause.MAILBOX_FULL), others[2])
    assert [line for line in shown if "@example.org" in line] == [f"{name}@example.org" for name in ("bob", *"xzy")]
    assert sum(line.startswith("waits because:") for line in shown) == 2


def test_mail_without_a_sender() -> None:
    shown = page(message(DEFERRED, sender=""), RUNNING)
    assert shown.startswith("0000000000001  <> -> 1 recipient\n")
    assert "notices:       nobody hears of it: it has no sender" in shown


def test_held_mail_may_be_kept_for_ever() -> None:
    scene = replace(RUNNING, schedules=replace(SCHEDULES, expire_held=False, notices=()))
    assert "expires:       never, while it is held (retry.expire_held = false)" in lines(HELD, scene=scene)
    assert "expires:       2030-01-03 11:00:00 UTC, in 47 h (retry.outage_expire: 2d)" in lines(DEFERRED, scene=scene)


def test_each_destination_that_is_open_shows_its_last_attempt() -> None:
    def attempt(domain: str, number: int) -> AttemptEntry:
        return AttemptEntry(domain, number, NOW, NOW, (), (), AttemptRecord())

    other = replace(DEFERRED, recipient="x@other.example", destination="other.example", number=1)
    gone = replace(DEFERRED, state=State.DELIVERED, recipient="x@gone.example", destination="gone.example", number=2)
    attempts = (
        attempt("example.org", 1),
        attempt("other.example", 1),
        attempt("gone.example", 1),
        attempt("example.org", 2),
    )
    shown = page(replace(message(DEFERRED, other, gone), attempts=attempts), RUNNING).splitlines()
    assert [line for line in shown if line.startswith("last attempt")] == [
        "last attempt: number 2 for example.org, 2030-01-01 12:00:00 UTC, took 0.0 s",
        "last attempt: number 1 for other.example, 2030-01-01 12:00:00 UTC, took 0.0 s",
    ]


EARLY = replace(QUEUED, next_attempt=NOW + DAY, release=NOW + DAY)


def test_what_its_sender_wants_later_waits_for_that_alone() -> None:
    """Also where the destination rests, or no service runs."""
    for scene in (RUNNING, replace(RUNNING, rests={"example.org": REST}), replace(RUNNING, service=False)):
        assert why(EARLY, scene) == "it is held by its sender until 2030-01-02 12:00:00 UTC"
    assert why(replace(EARLY, next_attempt=NOW), RUNNING) == "it was not tried yet: other mail is before it"
    shown = page(message(EARLY), RUNNING)
    assert "  not before:    2030-01-02 12:00:00 UTC, as its sender asked\n" in shown
    assert "what to do:    nothing: its sender wants it so; `relay queue retry 0000000000001` sends it now" in shown
    assert "expires:       2030-01-07 12:00:00 UTC, in 6 days (retry.expire: 5d)" in shown
    assert "is told that it is late 2030-01-02 16:00:00 UTC" in shown


@pytest.mark.parametrize(
    ("by", "words", "end"),
    [
        (
            DeliverBy(NOW + HOUR, returns=True),
            "2030-01-01 13:00:00 UTC, or it comes back",
            "2030-01-01 13:00:00 UTC, in 60 min (DELIVERBY, as its sender asked)",
        ),
        (
            DeliverBy(NOW + HOUR),
            "2030-01-01 13:00:00 UTC, or its sender hears that it is late",
            "2030-01-06 11:00:00 UTC, in 5 days (retry.expire: 5d); its sender is told that it is late 2030-01-01 13",
        ),
    ],
)
def test_a_time_by_which_it_is_to_be_there(by: DeliverBy, words: str, end: str) -> None:
    shown = page(message(replace(QUEUED, deliver_by=by, priority=-3)), RUNNING)
    assert f"  deliver by:    {words}\n" in shown
    assert f"  expires:       {end}" in shown
    assert "  priority:      -3 (from -9 to 9)\n" in shown
