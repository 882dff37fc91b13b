"""What a host's answers, or the lack of them, mean for recipients. Pure.

RFC 5321 sections 4.2.5 and 4.5.3.1.10, RFC 1870, RFC 6152, RFC 6531.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.delivery.smtp import Capabilities, ConnectFailed, Lost, Stage, Target
from relay.mail.message import Claim, SmtpUtf8
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, Outcome, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.verdict import Refuse, Rule

SHORTAGE_4_3_0 = Status(Kind.TEMPORARY, 3, 0)
CONNECT_4_4_1 = Status(Kind.TEMPORARY, 4, 1)
BROKEN_4_4_2 = Status(Kind.TEMPORARY, 4, 2)
REFUSED_4_4_4 = Status(Kind.TEMPORARY, 4, 4)
TOO_LARGE_5_3_4 = Status(Kind.PERMANENT, 3, 4)
EIGHT_BIT_5_6_3 = Status(Kind.PERMANENT, 6, 3)
SMTPUTF8_5_6_7 = Status(Kind.PERMANENT, 6, 7)


def of_answer(answer: Reply | Lost, host: str, tls: TlsUsed) -> tuple[Outcome, bool]:
    """What an answer to one recipient comes to, and whether the next host may still be tried for it."""
    match answer:
        case Reply(status=status) if status.kind is Kind.SUCCESS:
            return Delivered(status, answer, host, tls), False
        case Reply(status=status) if status.kind is Kind.PERMANENT:
            return Failed(status, f"{host} refused the message for good", host, answer, tls), False
        case Reply(status=status):
            return Deferred(status, f"{host} asks us to come again later", host, answer, tls), True
        case Lost():
            # RFC 5321 §4.2.5: after the final dot the outcome is unknown; another host now could mean a double.
            cause = Cause.UNKNOWN if answer.after_final_dot else Cause.OUTAGE
            broken = Deferred(BROKEN_4_4_2, f"{host} {answer.reason}", host, tls=tls, cause=cause)
            return broken, not answer.after_final_dot


def without_552(answers: Sequence[Reply | Lost]) -> list[Reply | Lost]:
    """RFC 5321 section 4.5.3.1.10: 552 to some of the recipients means that so many were too many: 452.

    Not so a full mailbox (5.2.2), a message too large (5.3.4), or a 552 to all, which is about the message.
    """
    too_many = [
        isinstance(one, Reply) and one.code == 552 and (one.status.subject, one.status.detail) in ((0, 0), (5, 3))
        for one in answers
    ]
    if not any(too_many) or all(too_many):
        return list(answers)
    return [
        Reply.of(452, one.lines) if refused and isinstance(one, Reply) else one
        for one, refused in zip(answers, too_many, strict=True)
    ]


def idled_out(answer: Reply | Lost) -> bool:
    """Whether a session that was kept says in this way that it had ended before the message."""
    return answer.code == 421 if isinstance(answer, Reply) else not answer.after_final_dot


def refused(refuse: Refuse, host: str) -> Deferred | Failed:
    """What a verdict that says no means for the recipients."""
    if refuse.status.kind is Kind.PERMANENT:
        return Failed(refuse.status, refuse.reason, host)
    cause = Cause.DNS if refuse.rule is Rule.DNS_UNDECIDED else Cause.TLS_POLICY
    return Deferred(refuse.status, refuse.reason, host, cause=cause)


def connect_failed(failed: ConnectFailed, target: Target) -> Deferred:
    """A host that can't be reached, or says no before it has heard of a recipient: no verdict on the recipient."""
    where = target.host if target.host == target.address else f"{target.host} [{target.address}]"
    if failed.reply is not None:
        status = failed.reply.status.with_kind(Kind.TEMPORARY)
        return Deferred(status, f"{where}: {failed.reason}", target.host, failed.reply)
    if failed.ours:
        what = f"this machine could not connect to {where}: {failed.reason}"
        return Deferred(SHORTAGE_4_3_0, what, cause=Cause.LOCAL)
    status = CONNECT_4_4_1 if failed.stage is Stage.CONNECT else BROKEN_4_4_2
    return Deferred(status, f"{where}: {failed.reason}", target.host, cause=Cause.OUTAGE)


def unfit(claim: Claim, can: Capabilities, host: str) -> Failed | None:
    """What this message needs and this host lacks; another host may have it."""
    if can.size and claim.body.size > can.size:
        return Failed(TOO_LARGE_5_3_4, f"the message has {claim.body.size} octets and {host} takes {can.size}", host)
    if claim.smtputf8 is SmtpUtf8.NEEDED and not can.smtputf8:
        return Failed(SMTPUTF8_5_6_7, f"the message needs SMTPUTF8, which {host} does not offer", host)
    if claim.eight_bit and not can.eight_bit_mime:
        return Failed(EIGHT_BIT_5_6_3, f"the message has 8-bit octets and {host} does not offer 8BITMIME", host)
    return None
