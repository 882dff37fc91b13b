"""What a letter says of the step that fails, and of who can mend it."""

from __future__ import annotations

import pytest

from relay.delivery.exchange import Stage
from relay.mail.address import parse_address
from relay.mail.message import Recipient
from relay.mail.outcome import Cause, Deferred, State
from relay.mail.status import Kind, Reply, Status
from relay.ndr.letter import failing_step
from relay.policy.retry import SettledRecipient


def step(detail: tuple[int, int], reason: str, cause: Cause | None = None, reply: Reply | None = None) -> str:
    outcome = Deferred(Status(Kind.TEMPORARY, *detail), reason, "mx", reply)
    recipient = Recipient(0, parse_address(b"bob@b.test"), 1)
    return failing_step(SettledRecipient(recipient, State.DEFERRED, outcome, None, cause=cause))


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (Stage.CONNECT, "connecting"),
        (Stage.GREETING, "greeted"),
        (Stage.EHLO, "EHLO"),
        (Stage.STARTTLS, "STARTTLS"),
        (Stage.MAIL, "MAIL"),
        (Stage.RCPT, "RCPT"),
        (Stage.OTHER_RCPT, "another recipient (RCPT)"),
        (Stage.DATA, "DATA"),
        (Stage.CHUNK, "BDAT"),
        (Stage.BODY, "sending the message"),
        (Stage.FINAL, "may have arrived"),
    ],
)
def test_a_stage_has_its_words(stage: Stage, words: str) -> None:
    assert words in step((4, 2), f"mx closed the connection {stage.value}")
    assert words in step((4, 2), f"mx closed the connection {stage.value}: connection reset by peer")


def test_no_stage_is_without_words() -> None:
    assert all(step((4, 2), f"mx closed the connection {one.value}") != step((4, 2), "mx") for one in Stage)


@pytest.mark.parametrize(
    ("detail", "reason", "cause", "words"),
    [
        ((4, 1), "mx [192.0.2.1]: connection refused", None, "connecting to the mail host"),
        ((4, 3), "the mail hosts of b.test could not be looked up: timed out", Cause.DNS, "DNS"),
        ((7, 5), "no TLSA record matches", Cause.TLS_POLICY, "as safe as it must be"),
        ((3, 0), "too many open files", Cause.LOCAL, "this server itself"),
        ((0, 0), "something new", Cause.LOGIN, "logging in"),
        ((0, 0), "something new", Cause.OUTAGE, "reaching the mail host"),
        ((0, 0), "something new", Cause.OTHER, "the delivery to the mail host"),
        ((0, 0), "something new", None, "the delivery to the mail host"),
    ],
)
def test_other_steps(detail: tuple[int, int], reason: str, cause: Cause | None, words: str) -> None:
    assert words in step(detail, reason, cause)


def test_of_what_may_have_arrived_the_recipient_is_to_be_asked() -> None:
    assert "may have arrived" in step((4, 2), "mx hung up; it may have arrived all the same", Cause.UNKNOWN)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("mx asks us to come again later", "consent; it wants"),
        ("mx asks us to come again later, after MAIL FROM", "consent to the sender (MAIL); it wants"),
        ("mx asks us to come again later, after RCPT TO", "consent to the recipient (RCPT); it wants"),
        ("mx asks us to come again later, after DATA", "consent to being sent the message (DATA); it wants"),
        ("mx asks us to come again later, after the end of the message", "which it has seen whole; it wants"),
        ("mx [192.0.2.1]: refused the session in its greeting", "consent to a session at all; it wants"),
        ("mx [192.0.2.1]: refused EHLO and HELO", "consent to a session at all (EHLO); it wants"),
    ],
)
def test_a_host_that_wants_to_wait(reason: str, words: str) -> None:
    assert words in step((7, 1), reason, Cause.GREYLISTING, Reply.of(451, ("4.7.1 grey",)))
