"""The page of `relay trace`, and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.mail.message import MessageId, Origin, TlsDemand
from relay.mail.outcome import State, TlsUsed
from relay.mail.record import AttemptRecord, HostRecord
from relay.queue.control import AS_SET
from relay.queue.history import ActEntry, AttemptEntry, MessageTrace, NoticeSent, Result
from relay.queue.store import QueueEntry
from relay.trace import as_json, page

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
MISFIT = "the TLSA records do not fit the server"
REFUSED = HostRecord(
    "mx1.example.org", "192.0.2.1", "TLS 1.2 or newer, a certificate that a TLSA record matches", "dane",
    "TLS 1.3, TLS_AES_256_GCM_SHA384", f"refused, 4.7.5: {MISFIT}", ("S: 220 \x1b[31mmx1", "C: QUIT"),
)  # fmt: skip
ALLOWED = replace(REFUSED, host="192.0.2.2", address="192.0.2.2", rule="", verdict="sent", dialogue=())
WAITS = Result((0, 1), State.DEFERRED, "4.7.5", MISFIT, None, "mx1.example.org", TlsUsed.NONE, NOW + HOUR)
DONE = Result((0,), State.DELIVERED, "2.0.0", None, "250 2.0.0 kept", "mx2.example.org", TlsUsed.VERIFIED, None)
ORIGIN = Origin("192.0.2.8", "submission", "trusted-networks")
NEVER = Result((1,), State.FAILED, "5.1.1", "refused", "550 5.1.1 who?", "mx2.example.org", TlsUsed.VERIFIED, None)


def recipient(address: str, state: State, attempts: int, next_attempt: datetime | None = None) -> QueueEntry:
    status, reason = {
        State.QUEUED: (None, None), State.DELIVERED: ("2.0.0", None), State.FAILED: ("5.1.1", "refused"),
    }.get(state, ("4.7.5", "it waits"))  # fmt: skip
    return QueueEntry(
        MessageId(1), "abc@sender.example", "from@sender.example", address, address.partition("@")[2], state, attempts,
        status, None, reason, None, TlsUsed.NONE, next_attempt, NOW, NOW, destination=address.partition("@")[2],
    )  # fmt: skip


def message(
    *recipients: QueueEntry, attempts: tuple[AttemptEntry, ...] = (), sender: str = "from@sender.example"
) -> MessageTrace:
    return MessageTrace(
        MessageId(1), "abc@sender.example", sender, 4321, TlsDemand.DEFAULT, NOW, None, recipients, attempts
    )


def attempt(number: int, *results: Result, domain: str = "example.org", began: datetime = NOW) -> AttemptEntry:
    return AttemptEntry(domain, number, began, began + 2.345 * SECOND, results, (), AttemptRecord())


def body(trace: MessageTrace, now: datetime = NOW) -> list[str]:
    """The page below what is the same for all."""
    text = page((trace,), now)
    return text.split("UTC  arrived\n\n")[1].splitlines()


def test_a_message_that_waited_and_left_in_part() -> None:
    first = replace(
        attempt(1, WAITS),
        record=AttemptRecord(("MTA-STS: no policy",), (REFUSED, ALLOWED)),
    )
    second = replace(
        attempt(2, DONE, NEVER, began=NOW + HOUR),
        ended=NOW + HOUR + timedelta(minutes=5),
        notices=(NoticeSent(MessageId(2), State.DELIVERED, "failure"), NoticeSent(MessageId(3), None, "delay")),
    )
    people = recipient("bob@example.org", State.DELIVERED, 2), recipient("no@example.org", State.FAILED, 2)
    assert (
        page((message(*people, attempts=(first, second)),), NOW + 2 * HOUR)
        == """\
0000000000001  from@sender.example -> bob@example.org, no@example.org
  Message-ID: <abc@sender.example>
  size: 4321 octets
  TLS: what the recipients' domains ask

2030-01-01 12:00:00 UTC  arrived

2030-01-01 12:00:00 UTC  attempt 1 for example.org, took 2.3 s
  MTA-STS: no policy
  mx1.example.org [192.0.2.1]
    required: TLS 1.2 or newer, a certificate that a TLSA record matches
    seen:     TLS 1.3, TLS_AES_256_GCM_SHA384
    verdict:  refused, 4.7.5: the TLSA records do not fit the server (rule dane)
      | S: 220 ?[31mmx1
      | C: QUIT
  192.0.2.2
    required: TLS 1.2 or newer, a certificate that a TLSA record matches
    seen:     TLS 1.3, TLS_AES_256_GCM_SHA384
    verdict:  sent
  => bob@example.org, no@example.org: deferred, 4.7.5 the TLSA records do not fit the server
       next attempt: 2030-01-01 13:00:00 UTC

2030-01-01 13:00:00 UTC  attempt 2 for example.org, took 5 min
  => bob@example.org: delivered to mx2.example.org, TLS verified
       mx2.example.org said: 250 2.0.0 kept
  => no@example.org: failed, 5.1.1 refused
       mx2.example.org said: 550 5.1.1 who?
  => notice of failure to from@sender.example: 0000000000002 (delivered)
  => notice of delay to from@sender.example: 0000000000003 (no longer kept)

bob@example.org: delivered
no@example.org: returned to the sender (5.1.1 refused)
"""
    )


# The recipient, and the last line.
FATES = [
    (recipient("a@b.test", State.DELIVERED, 1), "a@b.test: delivered"),
    (recipient("a@b.test", State.FAILED, 1), "a@b.test: returned to the sender (5.1.1 refused)"),
    (recipient("a@b.test", State.HELD, 1), "a@b.test: held (4.7.5 it waits)"),
    (recipient("a@b.test", State.QUEUED, 1), "a@b.test: being tried now"),
    (
        recipient("a@b.test", State.DEFERRED, 1, NOW + HOUR),
        "a@b.test: waits until 2030-01-01 13:00:00 UTC, in 60 min (4.7.5 it waits)",
    ),
    (
        recipient("a@b.test", State.QUEUED, 0, NOW),
        "a@b.test: due since 2030-01-01 12:00:00 UTC, waits for the service",
    ),
]


@pytest.mark.parametrize(("entry", "last"), FATES)
def test_the_last_line_says_what_happens_next(entry: QueueEntry, last: str) -> None:
    assert page((message(entry),), NOW).splitlines()[-1] == last


def test_nobody_is_told_of_a_message_without_a_sender() -> None:
    lost = message(recipient("a@b.test", State.FAILED, 1), sender="")
    assert body(lost)[-1] == "a@b.test: given up, and nobody is told: it has no sender (5.1.1 refused)"
    assert page((lost,), NOW).startswith("0000000000001  <> -> a@b.test\n")


def test_recipients_with_the_same_end_stand_together() -> None:
    alike = [recipient(f"{number}@b.test", State.DELIVERED, 1) for number in range(12)]
    assert body(message(*alike))[-1] == "all recipients: delivered"
    mixed = (*alike, recipient("no@b.test", State.FAILED, 1))
    named = ", ".join(f"{number}@b.test" for number in range(10))
    assert body(message(*mixed))[-2] == f"{named} and 2 more: delivered"


NO_EVIDENCE = "no evidence: the service stopped meanwhile, or the disk was full, or a version made it that kept none)"
LEFT_OUT = "left out, as the first 10 and the newest 30 are kept)"
# Numbers of the attempts that have left evidence, attempts in all, whether one is under way; what is said of the rest.
GAPS = [
    ([1, 2], 2, False, []),
    ([1, 3], 3, False, [f"(attempt 2 for example.org: {NO_EVIDENCE}"]),
    ([4], 4, False, [f"(attempts 1 to 3 for example.org: {NO_EVIDENCE}"]),
    ([1], 3, False, [f"(attempts 2 to 3 for example.org: {NO_EVIDENCE}"]),
    ([], 2, False, [f"(attempts 1 to 2 for example.org: {NO_EVIDENCE}"]),
    ([], 0, False, []),
    ([1], 2, True, ["attempt 2 for example.org is under way, or was cut short if the service does not run"]),
    ([], 1, True, ["attempt 1 for example.org is under way, or was cut short if the service does not run"]),
    ([*range(1, 11), *range(16, 46)], 45, False, [f"(attempts 11 to 15 for example.org: {LEFT_OUT}"]),
    ([*range(1, 10), *range(17, 46)], 45, False, [f"(attempts 10 to 16 for example.org: {LEFT_OUT}"]),
    ([*range(1, 11), *range(16, 30), *range(31, 46)], 45, False, [
        f"(attempts 11 to 15 for example.org: {LEFT_OUT}", f"(attempt 30 for example.org: {NO_EVIDENCE}",
    ]),
]  # fmt: skip


def test_mail_of_a_route_and_mail_that_moved_to_one_leave_no_gap() -> None:
    """What was tried directly and then by the fallback has been tried by the fallback for the third time."""
    smart = replace(recipient("bob@example.org", State.DEFERRED, 2, NOW + HOUR), destination="route:smart")
    tries = [attempt(number, WAITS_ONE, domain="route:smart") for number in (1, 2)]
    assert not any("evidence" in line for line in body(message(smart, attempts=tuple(tries))))
    moved = replace(smart, attempts=3, destination="route:fallback")
    tries = [attempt(1, WAITS_ONE), attempt(2, WAITS_ONE), attempt(3, WAITS_ONE, domain="route:fallback")]
    for kept, gaps in (
        (tries, []),
        (tries[:2], ["(attempt 3 for route:fallback: no"]),
        ([tries[0], tries[2]], ["(attempt 2"]),
    ):
        lines = [line for line in body(message(moved, attempts=tuple(kept))) if "evidence" in line]
        assert [line[: len(gap)] for line, gap in zip(lines, gaps, strict=True)] == gaps


@pytest.mark.parametrize(("kept", "attempts", "under_way", "said"), GAPS)
def test_attempts_without_evidence_are_named(kept: list[int], attempts: int, under_way: bool, said: list[str]) -> None:
    entry = recipient("a@example.org", State.DEFERRED, attempts, None if under_way else NOW + HOUR)
    lines = body(message(entry, attempts=tuple(attempt(number, WAITS_ONE) for number in kept)))
    assert [line for line in lines if "example.org" in line and line.startswith(("(", "attempt"))] == said


WAITS_ONE = replace(WAITS, recipients=(0,))


def test_hosts_that_were_left_out_are_counted_in_their_place() -> None:
    entry = recipient("a@example.org", State.DEFERRED, 1, NOW + HOUR)
    many = replace(attempt(1), record=AttemptRecord((), (REFUSED, ALLOWED), left_out=7))
    lines = body(message(entry, attempts=(many,)))
    place = lines.index("  (7 more were tried here, and are not kept)")
    assert lines[1].startswith("  mx1.example.org") and lines[place + 1] == "  192.0.2.2"


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    back = replace(attempt(1), ended=NOW - HOUR)
    assert body(message(recipient("a@b.test", State.DELIVERED, 1), attempts=(back,)))[0].endswith("took 0.0 s")


def test_what_the_sender_asked_and_what_a_notice_speaks_of_are_told() -> None:
    notice = replace(
        message(recipient("a@b.test", State.DELIVERED, 1)),
        message_id=None, demand=TlsDemand.REQUIRED, about=MessageId(9), size=1,
    )  # fmt: skip
    assert page((notice,), NOW).splitlines()[1:5] == [
        "  Message-ID: none",
        "  size: 1 octet",
        "  TLS: the sender requires it all the way (REQUIRETLS)",
        "  a notice about 0000000000009",
    ]


@pytest.mark.parametrize(
    ("kind", "sender", "words"),
    [
        ("failure", "from@sender.example", "notice of failure to from@sender.example"),
        ("relayed", "from@sender.example", "notice of handing on to from@sender.example"),
        ("undeliverable", "", "notice of a lost bounce to the postmaster"),
        (None, "from@sender.example", "notice to from@sender.example"),  # of an older version
    ],
)
def test_a_notice_is_named_by_its_kind(kind: str | None, sender: str, words: str) -> None:
    first = replace(attempt(1, DONE), notices=(NoticeSent(MessageId(2), None, kind),))
    about = replace(message(recipient("bob@example.org", State.DELIVERED, 1), attempts=(first,)), sender=sender)
    assert f"  => {words}: 0000000000002 (no longer kept)" in page((about,), NOW).splitlines()


def test_several_messages_stand_one_after_the_other() -> None:
    one = message(recipient("a@b.test", State.DELIVERED, 1))
    assert page((one, one), NOW) == f"{page((one,), NOW)}\n\n{page((one,), NOW)}"


@pytest.mark.parametrize(
    ("origin", "login", "line"),
    [
        (ORIGIN, None, "from: 192.0.2.8, without a login, at the listener submission, by trusted-networks"),
        (ORIGIN, "jo", "from: 192.0.2.8, logged in as jo, at the listener submission, by trusted-networks"),
        (None, "jo", "from: logged in as jo"),  # of a version that did not keep it
        (None, None, None),
    ],
)
def test_who_handed_it_in(origin: Origin | None, login: str | None, line: str | None) -> None:
    trace = replace(message(recipient("bob@example.org", State.QUEUED, 0)), origin=origin, login=login)
    found = [text.strip() for text in page((trace,), NOW).splitlines() if text.startswith("  from:")]
    assert found == ([line] if line is not None else [])


def test_json_has_the_same() -> None:
    entry = recipient("bob@example.org", State.DEFERRED, 1, NOW + HOUR)
    first = replace(
        attempt(1, WAITS_ONE),
        record=AttemptRecord(("MTA-STS: no policy",), (REFUSED,), 3),
        notices=(NoticeSent(MessageId(2), None),),
    )
    act = ActEntry(0, "hold", NOW, "root", None)
    (found,) = json.loads(as_json((replace(message(entry, attempts=(first,)), acts=(act,), origin=ORIGIN),)))
    assert found == {
        "id": "0000000000001",
        "message_id": "abc@sender.example",
        "sender": "from@sender.example",
        "size": 4321,
        "tls_demand": "default",
        "arrived": "2030-01-01T12:00:00.000Z",
        "about": None,
        "login": None,
        "client": "192.0.2.8",
        "listener": "submission",
        "allowed_by": "trusted-networks",
        "recipients": [
            {
                "address": "bob@example.org", "domain": "example.org", "state": "deferred", "attempts": 1,
                "under_way": False, "next_attempt": "2030-01-01T13:00:00.000Z", "changed": "2030-01-01T12:00:00.000Z",
            }
        ],
        "attempts": [
            {
                "domain": "example.org",
                "number": 1,
                "began": "2030-01-01T12:00:00.000Z",
                "ended": "2030-01-01T12:00:02.345Z",
                "policies": ["MTA-STS: no policy"],
                "tried": [
                    {
                        "host": "mx1.example.org", "address": "192.0.2.1", "required": REFUSED.required, "rule": "dane",
                        "seen": REFUSED.seen, "verdict": REFUSED.verdict, "dialogue": list(REFUSED.dialogue),
                    }
                ],
                "tried_left_out": 3,
                "results": [
                    {
                        "recipients": ["bob@example.org"], "state": "deferred", "status": "4.7.5", "reason": MISFIT,
                        "reply": None, "host": "mx1.example.org", "tls": "none",
                        "next_attempt": "2030-01-01T13:00:00.000Z",
                    }
                ],
                "notices": [{"id": "0000000000002", "kind": None, "state": None}],
            }
        ],
        "acts": [{
            "recipient": "bob@example.org", "action": "hold", "made": "2030-01-01T12:00:00.000Z", "who": "root",
            "detail": None,
        }],
    }  # fmt: skip


def test_what_operators_did_stands_between_the_attempts() -> None:
    people = recipient("bob@example.org", State.DEFERRED, 2, NOW + HOUR), recipient("x@example.org", State.DROPPED, 2)
    acts = (
        ActEntry(0, "hold", NOW + HOUR / 2, "root", "their change window"),
        ActEntry(1, "hold", NOW + HOUR / 2, "root", "their change window"),
        ActEntry(0, "reroute", NOW + 2 * HOUR, "ops", "backup"),
        ActEntry(1, "drop", NOW + 2 * HOUR, "ops", None),
        ActEntry(0, "reroute", NOW + 3 * HOUR, "ops", AS_SET),
    )
    attempts = attempt(1, WAITS), attempt(2, WAITS, began=NOW + HOUR)
    lines = body(replace(message(*people, attempts=attempts), acts=acts), NOW)
    assert [line for line in lines if "UTC  " in line or ": dropped" in line] == [
        "2030-01-01 12:00:00 UTC  attempt 1 for example.org, took 2.3 s",
        "2030-01-01 12:30:00 UTC  bob@example.org, x@example.org: held by root: their change window",
        "2030-01-01 13:00:00 UTC  attempt 2 for example.org, took 2.3 s",
        "2030-01-01 14:00:00 UTC  bob@example.org: rerouted by ops to backup",
        "2030-01-01 14:00:00 UTC  x@example.org: dropped by ops",
        "2030-01-01 15:00:00 UTC  bob@example.org: rerouted by ops as the settings say",
        "x@example.org: dropped, and nobody was told (4.7.5 it waits)",
    ]
