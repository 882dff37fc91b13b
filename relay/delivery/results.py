"""What a host's answers, or the lack of them, mean for recipients. Pure.

RFC 5321 section 4.2.5.
"""

from __future__ import annotations

from relay.delivery.credentials import Credentials, Unreadable
from relay.delivery.login import LoginFailed
from relay.delivery.opening import ConnectFailed, Target
from relay.delivery.transaction import Lost, Stage
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, Outcome, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import MAY_HAVE_ARRIVED
from relay.policy.verdict import Refuse, Rule
from relay.queue.store import StoreUnavailable

SHORTAGE_4_3_0 = Status(Kind.TEMPORARY, 3, 0)
CONNECT_4_4_1 = Status(Kind.TEMPORARY, 4, 1)
BROKEN_4_4_2 = Status(Kind.TEMPORARY, 4, 2)
REFUSED_4_4_4 = Status(Kind.TEMPORARY, 4, 4)
LOGIN_4_7_8 = Status(Kind.TEMPORARY, 7, 8)


_REFUSED = {Stage.MAIL: "the sender", Stage.RCPT: "the recipient"}  # at any later stage: the message


def of_answer(answer: Reply | Lost, stage: Stage, host: str, tls: TlsUsed) -> tuple[Outcome, bool]:
    """What an answer to one recipient comes to, and whether the next host may still be tried for it.

    `stage`: where in the dialogue the reply came.
    """
    match answer:
        case Reply(status=status) if status.kind is Kind.SUCCESS:
            return Delivered(status, answer, host, tls), False
        case Reply(status=status) if status.kind is Kind.PERMANENT:
            return Failed(
                status, f"{host} refused {_REFUSED.get(stage, 'the message')} for good", host, answer, tls
            ), False
        case Reply(status=status):
            return Deferred(status, f"{host} asks us to come again later, {stage.value}", host, answer, tls), True
        case Lost():
            if answer.after_final_dot:
                # RFC 5321 §4.2.5, RFC 1047: the outcome is unknown; another host now could mean a double.
                reason = f"{host} {answer.reason}; {MAY_HAVE_ARRIVED}"
                return Deferred(BROKEN_4_4_2, reason, host, tls=tls, cause=Cause.UNKNOWN), False
            reason = answer.reason
            if stage is Stage.OTHER_RCPT:
                reason = reason.replace(Stage.RCPT.value, stage.value, 1)
            broken = f"{host} {reason}"
            return Deferred(BROKEN_4_4_2, broken, host, tls=tls, cause=Cause.OUTAGE), True


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


def not_read(error: StoreUnavailable) -> Deferred:
    """The queue cannot give the message: it waits."""
    return Deferred(SHORTAGE_4_3_0, f"the message could not be read: {error}", cause=Cause.LOCAL)


def login_failed(failed: LoginFailed | Lost, credentials: Credentials, host: str, tls: TlsUsed) -> Deferred:
    """A next hop that does not take our login: mail waits until somebody mends it, or until it expires."""
    if isinstance(failed, Lost):
        return Deferred(BROKEN_4_4_2, f"{host} {failed.reason}", host, tls=tls)
    reason = f"{host} {failed.reason} ({credentials.setting})"
    return Deferred(LOGIN_4_7_8, reason, host, failed.reply, tls, Cause.LOGIN)


def unreadable(missing: Unreadable, host: str) -> Deferred:
    """The login for a next hop is not to be had; without it nothing is sent there."""
    return Deferred(LOGIN_4_7_8, missing.reason, host, cause=Cause.LOGIN)
