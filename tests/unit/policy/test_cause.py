"""What real servers say, and why the mail waits then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.outcome import Cause, Deferred
from relay.mail.status import Kind, Reply, Status
from relay.policy.cause import cause_of


def said(text: str) -> Deferred:
    """What comes of a reply, given as `code text`, lines parted by a bar."""
    lines = text.split("|")
    reply = Reply.of(int(lines[0][:3]), tuple(line[4:] if at == 0 else line for at, line in enumerate(lines)))
    return Deferred(reply.status.with_kind(Kind.TEMPORARY), "later", "mx.test", reply)


REPLIES: dict[Cause, list[str]] = {
    Cause.GREYLISTING: [
        "450 4.2.0 <r@b.test>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/b.test.html",
        "450 4.7.1 <r@b.test>: Recipient address rejected: Greylisted for 5 minutes",
        "450 4.7.1 <r@b.test>: Client host rejected: Greylisted for 5 minutes",
        "451 4.7.1 Greylisting in action, please come back in 00:05:00",
        "451 4.7.1 Greylisting in action, please come back later",
        "451 4.7.1 Try again later",
        "451 4.7.1  ",
        "450 4.7.1 <r@b.test>: Recipient address rejected: Policy Rejection- Please try later.",
        "450 4.7.1 Client host rejected: Try again later",
        "450 4.3.2 Service currently unavailable",
        "450 4.3.2 try again later",
        "451 Internal resources are temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451 [aB3]",
        "451 4.7.1 Sorry, the service is currently unavailable. Please come back later.",
        "450 4.2.0 Greylisting enabled, please try again later",
        "450 Requested mail action not taken: mailbox unavailable|Mail refused due to greylisting",
        "451 Greylisted, please try again in 300 seconds",
        "451 4.3.0 <r@b.test>: Temporarily deferred by gray listing",
        "451 GL - temporary problem. Try again later (#4.3.0)",
        "450 4.7.1 Sender gegreylistet, bitte spaeter noch einmal",
        "451 4.7.1 Erneut versuchen",
        "450 4.7.1 <r@b.test>: Recipient address rejected: Greylisted, you are listed in zen.spamhaus.org",
        "451 Message temporarily deferred - [160]",
        "451 4.7.0 Temporarily deferred, please retry",
    ],
    Cause.THROTTLING: [
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - "
        "4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
        "421 4.7.28 [192.0.2.1      15] Our system has detected an unusual rate of|4.7.28 unsolicited mail originating"
        " from your IP address. To protect our|4.7.28 users from spam, mail sent from your IP address has been "
        "temporarily|4.7.28 rate limited.",
        "421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address.",
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly.|4.2.1 Please resend your message "
        "at a later time.",
        "450 4.2.1 The user you are trying to contact is receiving mail at a rate that|4.2.1 prevents additional "
        "messages from being delivered.",
        "450 4.2.1 The recipient has exceeded their message rate limit. Try again later",
        "452 4.5.3 Your message has too many recipients.",
        "452 4.5.3 Error: too many recipients",
        "452 Too many recipients received this hour",
        "452 #4.5.3 Too many recipients",
        "421 4.7.0 mx.b.test Error: too many connections from 192.0.2.1",
        "421 Too many concurrent SMTP connections; please try again later.",
        "421 4.3.2 Connection rate limit exceeded.",
        "421 4.3.2 Too many open connections.",
        "421 4.3.2 All server ports are busy",
        "421 4.3.2 The maximum number of concurrent server connections has exceeded a limit, closing transmission "
        "channel",
        "421 #4.4.5 Too many connections from your host.",
        "421 4.4.5 Server busy, try again later.",
        "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719) [AM0EUR02FT003]",
        "451 4.5.1 The recipient has exceeded message rate limit. Try again later.",
        "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
        "421 RP-001 (SNT004-MC4F16) Unfortunately, some messages from 192.0.2.1 weren't sent. Please try again. We "
        "have limits for how many messages can be sent per hour and per day.",
        "421 4.1.0 192.0.2.1 Throttled - try again later. Please see "
        "http://postmaster.comcast.net/smtp-error-codes.php#RL000001",
        "450 4.7.1 Error: too much mail from 192.0.2.1",
        "450 too frequent connects from 192.0.2.1, please try again later.",
        "421 mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration. Too many connections, slow down. "
        "OFR004_104 [104]",
        "450 MI:SFQ 163 smtp2,8Mk,2048 please see http://mail.163.com/help/help_spam_16.htm",
        "421 HL:ITC 163 mx27 concurrent connections over limit",
        "421 mx.b.test: Too much load; please try again later.",
        "421 4.7.0 Try again later, closing connection.",
        "550 Connection frequency limited",
        "421 4.7.1 Intenta de nuevo mas tarde",
        "451 4.4.5 Mail system congestion",
        "450 4.7.1 You've exceeded your sending limit to this domain",
        "421 Server too busy.",
        "452 4.5.3 Zu viele Empfaenger",
        "421 4.4.5 Bitte spaeter",
        "421 Max message per connection reached, closing transmission channel",
        "421 4.7.1 Messages to r@b.test deferred due to excessive volume. Try again later",
        "450 4.7.3 Organization queue quota exceeded.",
        "450 User is receiving mail too quickly",
    ],
    Cause.REPUTATION: [
        "421 4.7.0 [192.0.2.1      15] Our system has detected that this message is|4.7.0 suspicious due to the very "
        "low reputation of the sending IP address.",
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. For e-mail "
        "delivery information, see https://postmaster.live.com (S3113)",
        "451 4.7.651 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S3114)",
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service "
        "provider since part of their network is on our block list (S3150).",
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        "450 4.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.spamcop.net",
        "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1",
        "554 mx.b.test|Your access to this mail system has been rejected due to the sending MTA's poor reputation.",
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints - 4.16.55.1",
        "421 4.7.26 This mail has been rate limited because it is unauthenticated.|4.7.26 Gmail requires all senders "
        "to authenticate with either SPF or DKIM.",
        "421 4.7.27 Your email has been rate limited because SPF authentication didn't pass for this message.",
        "421 4.7.30 Your email has been rate limited because DKIM authentication didn't pass for this message.",
        "421 4.7.32 Your email has been rate limited because the From: header (RFC5322) isn't aligned",
        "421 4.7.40 Your email has been rate limited because the sending domain doesn't have a DMARC record",
        "451 4.7.550 Access denied, please try again later",
        "421 4.3.2 Your IP(192.0.2.1) is filtered and this connection will be closed.",
        "421 Too many spams from your IP (192.0.2.1), please visit http://postmaster.free.fr/",
        "450 4.7.1 Mail from 192.0.2.1 deferred using Trend Micro Email Reputation database.",
        "421 4.7.1 [CS01] Message rejected due to local policy.",
        "450 DT:RBL 163 smtp4 192.0.2.1 is listed",
        "554 5.7.1 Zugriff verweigert",
        "451 4.7.1 Your IP 192.0.2.1 is on our blacklist, try again later",
        "421 gmx.net (mxgmx017) Nemesis ESMTP Service not available|IP address has been temporarily blocked",
        "451 4.7.650 Versuchen Sie es spaeter",
        "450 cuda_nsu 4.7.1 <r@b.test>: Recipient address rejected: Policy Rejection- Abuse. Go away.",
        "421 4.7.0 [192.0.2.1] Our system has detected that this message is suspicious due to the nature of the "
        "content and/or the links within.",
        "554 5.2.0 sc969: IP reputation ratelimit in effect",
    ],
    Cause.MAILBOX_FULL: [
        "452 4.2.2 The email account that you tried to reach is over quota.",
        "452 4.2.2 The recipient's inbox is out of storage space.",
        "452 4.2.2 <r@b.test> Quota exceeded (mailbox for user is full)",
        "422 The recipient's mailbox has exceeded its storage limit",
        "450 4.2.2 mailbox full",
        "452 <r@b.test> Mailbox size limit exceeded",
        "452 4.3.1 <r@b.test> user over quota",
        "451 r@b.test: mailbox is full, try again later",
        "452 4.2.2 Postfach voll",
        "452 4.1.1 <r@b.test> is over quota",
        "552 5.2.2 Over quota",
        "452 Quota exceeded",
        "422 <r@b.test>",
        "452 Account storage full",
    ],
    Cause.OUTAGE: [
        "421 4.3.2 System shutting down",
        "421 4.3.0 Temporary System Problem. Try again later.",
        "421 mx.b.test Service not available, closing transmission channel",
        "421 4.3.2 Service not available",
        "451 4.3.0 Temporary lookup failure",
        "451 4.3.0 <r@b.test>: Temporary lookup failure",
        "451 4.3.0 Error: queue file write error",
        "451 4.3.5 Server configuration problem",
        "452 4.3.1 Insufficient system storage",
        "452 4.3.1 Insufficient system resources",
        "452 4.4.5 Insufficient disk space; try again later",
        "452 space shortage, please try later",
        "451 Temporary local problem - please try later",
        "451 Requested action aborted: local error in processing",
        "451 4.7.1 Service unavailable - try again later",
        "451 4.7.0 Temporary server error. Please try again later. PRX4",
        "421 4.4.2 mx.b.test Error: timeout exceeded",
        "421 Unexpected failure, please try later",
        "451 4.4.0 Temporary server error",
        "451 4.4.2 Timeout - closing connection.",
        "450 4.4.316 Connection refused [Message=Socket error code 10061]",
        "421",
        "421 4.3.0",
        "452",
        "431 Not enough space on the disk",
        "421 Maintenance window until 04:00",
        "421 4.3.2 Wartungsarbeiten",
        "422 License Expired",
        "421 Temporary failure, please try again later.",
        "421 Service Temporarily Unavailable",
        "451 4.3.0 Mail server temporarily rejected message.",
        "452 temporary domain failure <r@b.test>",
    ],
    Cause.DNS: [
        "450 4.1.8 <s@a.test>: Sender address rejected: Domain not found",
        "451 4.1.8 Domain of sender address s@a.test does not resolve",
        "450 4.7.1 <mail.a.test>: Helo command rejected: Host not found",
        "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
        "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]",
        "451 4.4.3 Temporary DNS error resolving your name",
        "450 4.1.2 <r@b.test>: Recipient address rejected: Domain not found",
        "451 4.4.3 Namensaufloesung fehlgeschlagen",
        "451 4.7.1 SPF check: temporary failure, try again later",
        "451 4.7.24 SPF Temporary Error: DNS Timeout",
        "421 4.7.1 Reverse DNS failure: Try again later.",
        "450 4.4.312 DNS query failed",
    ],
    Cause.LOGIN: [
        "454 4.7.0 Temporary authentication failure",
        "454 4.7.0 Temporary authentication failure: Connection lost to authentication server",
        "535 5.7.8 Error: authentication failed: authentication failure",
        "432 4.7.12 A password transition is needed",
    ],
    Cause.TLS_POLICY: [
        "454 4.7.0 TLS not available due to local problem",
        "530 5.7.0 Must issue a STARTTLS command first",
        "421 4.7.0 TLS required for RCPT domain, closing connection.",
        "421 4.7.29 Your email has been rate limited because this message wasn't sent over a TLS connection.",
        "450 4.7.10 Encryption needed",
        "450 4.7.10 Verschluesselung ist noetig",
    ],
    Cause.OTHER: [
        "450 4.1.1 <r@b.test>: Recipient address rejected: unverified address: Address verification in progress",
        "450 Requested mail action not taken: mailbox unavailable (e.g., mailbox busy)",
        "450 4.2.1 mailbox disabled",
        "450 4.2.1 <blacklist.full.quota@dnsbl.test>: try it tomorrow",
        "421 4.1.1 <r@b.test>: Recipient address rejected: unverified address: Address verification in progress",
        "450 4.2.0 <r@b.test> - Recipient temporarily unavailable",
        "451 Open relay not allowed",
        "451 Invalid Recipient",
        "450 Requested action aborted [9] 1-2",
        "454 4.7.1 <r@b.test>: Relay access denied",
        "450 4.7.1 <r@b.test>: Relay access denied",
        "451 could not complete sender verify callout",
        "554 no SMTP service here",
        "451",
        "450",
        "455 4.5.0 parameters not accommodated",
    ],
}  # fmt: skip
TABLE = [(text, cause) for cause, texts in REPLIES.items() for text in texts]


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 140 and len(set(TABLE)) == len(TABLE)


@pytest.mark.parametrize(("text", "cause"), TABLE, ids=lambda value: str(value)[:50])
def test_what_servers_say(text: str, cause: Cause) -> None:
    assert cause_of(said(text)) is cause


@pytest.mark.parametrize(("text", "cause"), TABLE, ids=lambda value: str(value)[:50])
def test_neither_capitals_nor_how_the_lines_were_broken_matter(text: str, cause: Cause) -> None:
    """The queue keeps a reply as one line."""
    one_line = said(text.upper()).reply
    assert one_line is not None
    kept = Reply.of(one_line.code, (one_line.text[4:],))
    assert cause_of(Deferred(kept.status.with_kind(Kind.TEMPORARY), "later", reply=kept)) is cause


@pytest.mark.parametrize(("before", "cause"), [(1992, Cause.GREYLISTING), (1993, Cause.OTHER)])
def test_only_the_beginning_of_a_long_reply_is_looked_at(before: int, cause: Cause) -> None:
    assert cause_of(said("450 " + "x" * (before - 1) + " greylists")) is cause


@pytest.mark.parametrize("cause", Cause)
def test_what_the_code_knows_stands(cause: Cause) -> None:
    reply = Reply.of(450, ("4.7.1 Greylisted",))
    assert cause_of(Deferred(reply.status, "later", reply=reply, cause=cause)) is cause


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("4.7.4", Cause.TLS_POLICY),
        ("4.7.5", Cause.TLS_POLICY),
        ("4.7.6", Cause.TLS_POLICY),
        ("4.7.10", Cause.TLS_POLICY),
        ("4.4.8", Cause.TLS_POLICY),
        ("4.7.8", Cause.LOGIN),
        ("4.4.3", Cause.DNS),
        ("4.4.4", Cause.DNS),
        ("4.4.1", Cause.OUTAGE),
        ("4.4.2", Cause.OUTAGE),
        ("4.3.0", Cause.LOCAL),
        ("4.3.1", Cause.LOCAL),
        ("4.0.0", Cause.OTHER),
    ],
)
def test_without_a_reply_our_own_status_tells(status: str, cause: Cause) -> None:
    assert cause_of(Deferred(Status.parse(status), "later")) is cause


@given(
    st.integers(400, 599),
    st.sampled_from(["", "4.7.1 ", "4.0.0 ", "5.999.999 ", "4.3.2 "]),
    st.lists(st.text(max_size=300), min_size=0, max_size=4),
)
def test_every_reply_has_a_cause(code: int, enhanced: str, lines: list[str]) -> None:
    reply = Reply.of(code, (enhanced + "".join(lines[:1]), *lines[1:]))
    found = cause_of(Deferred(reply.status.with_kind(Kind.TEMPORARY), "later", reply=reply))
    assert found not in (Cause.LOCAL, Cause.UNKNOWN)  # those are ours alone
