"""The cause that a deferral has where no host's reply tells it."""

from __future__ import annotations

import pytest

from relay.delivery.opening import ConnectFailed, Target
from relay.delivery.results import connect_failed, of_answer, refused
from relay.delivery.transaction import Lost, Stage
from relay.mail.outcome import Cause, Deferred, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.cause import cause_of
from relay.policy.requirement import Refuse, Rule

TARGET = Target("mx.test", "192.0.2.1", 25)
NOT_VERIFIED = Status(Kind.TEMPORARY, 7, 5)


@pytest.mark.parametrize(
    ("failed", "cause"),
    [
        (ConnectFailed(Stage.CONNECT, "connection refused"), Cause.OUTAGE),
        (ConnectFailed(Stage.EHLO, "closed the connection"), Cause.OUTAGE),
        (ConnectFailed(Stage.CONNECT, "too many open files", ours=True), Cause.LOCAL),
        (ConnectFailed(Stage.GREETING, "says no", Reply.of(554, ("5.7.1 blocked using b.test",))), Cause.REPUTATION),
        (ConnectFailed(Stage.GREETING, "says no", Reply.of(421, ("too many connections",))), Cause.THROTTLING),
        (ConnectFailed(Stage.GREETING, "says no", Reply.of(421, ("closing for the night",))), Cause.OUTAGE),
    ],
)
def test_no_session(failed: ConnectFailed, cause: Cause) -> None:
    assert cause_of(connect_failed(failed, TARGET)) is cause


@pytest.mark.parametrize(
    ("rule", "cause"),
    [(Rule.DANE, Cause.TLS_POLICY), (Rule.TLS_MEMORY, Cause.TLS_POLICY), (Rule.DNS_UNDECIDED, Cause.DNS)],
)
def test_a_verdict(rule: Rule, cause: Cause) -> None:
    outcome = refused(Refuse(NOT_VERIFIED, "no", rule), "mx.test")
    assert isinstance(outcome, Deferred) and outcome.cause is cause


@pytest.mark.parametrize(("after_final_dot", "cause"), [(False, Cause.OUTAGE), (True, Cause.UNKNOWN)])
def test_a_connection_that_broke(after_final_dot: bool, cause: Cause) -> None:
    outcome, _ = of_answer(Lost(Stage.DATA, "hung up", after_final_dot), Stage.DATA, "mx.test", TlsUsed.NONE)
    assert isinstance(outcome, Deferred) and outcome.cause is cause


def test_a_reply_tells_its_cause_itself() -> None:
    outcome, _ = of_answer(Reply.of(450, ("4.7.1 Greylisted",)), Stage.RCPT, "mx.test", TlsUsed.NONE)
    assert isinstance(outcome, Deferred) and (outcome.cause, cause_of(outcome)) == (None, Cause.GREYLISTING)
