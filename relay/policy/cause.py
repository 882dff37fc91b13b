"""Why a host said "later", as far as its reply tells: the codes it used, and its words.

RFC 3463 gives the enhanced codes their meaning, but hosts use few of them with care: 4.7.1 is said for greylisting, for
a block list and for a filter that is down. So what a code says beyond doubt comes first, then words that are known from
real servers, then what the code most often means. In a language that nobody here knows the code alone decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relay.mail.outcome import Cause, Deferred
from relay.mail.status import Reply, Status

_ENHANCED = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])")  # Google says it again on every line
_ADDRESS = re.compile(r"[^\s<>]*@[^\s<>]*")  # no sign of anything, whatever it is called
_LONGEST = 2000  # characters that are looked at


@dataclass(frozen=True, slots=True)
class _Sign:
    """One line of the table: it fits when all that it names does. `status` is without the class: `7.28`."""

    cause: Cause
    status: re.Pattern[str] | None
    code: re.Pattern[str] | None
    words: re.Pattern[str] | None

    def fits(self, status: str, code: str, words: str) -> bool:
        return (
            (self.status is None or self.status.fullmatch(status) is not None)
            and (self.code is None or self.code.fullmatch(code) is not None)
            and (self.words is None or self.words.search(words) is not None)
        )


def _sign(cause: Cause, *words: str, status: str = "", code: str = "") -> _Sign:
    """`status` and `code` must fit whole, one of `words` (lower case, one space between them) somewhere."""

    def pattern(text: str) -> re.Pattern[str] | None:
        return re.compile(text) if text else None

    return _Sign(cause, pattern(status), pattern(code), pattern("|".join(words)))


# The first line that fits decides.
_SIGNS = (
    # What leaves no doubt. RFC 3463 §3, RFC 7372; 7.26 to 7.40 as Google uses them.
    _sign(Cause.MAILBOX_FULL, status=r"2\.2"),
    _sign(Cause.THROTTLING, status=r"5\.3|7\.28"),
    _sign(Cause.TLS_POLICY, r"\btls\b", status=r"7\.29"),
    _sign(Cause.REPUTATION, status=r"7\.(2[0-3]|26|27|29|30|32|40)"),
    _sign(Cause.DNS, status=r"1\.8|4\.3|7\.2[45]|4\.31[0-4]"),
    _sign(Cause.LOGIN, status=r"7\.(8|9|11|12)"),  # RFC 4954 §6
    _sign(Cause.TLS_POLICY, status=r"7\.(4|10)"),
    # Greylisting by name, and those that never say its name: postscreen, Mimecast, Yandex.
    _sign(Cause.GREYLISTING, "gr[ae]y[ -]?list", "postgrey", "gr[ae]ylst"),
    _sign(Cause.GREYLISTING, "service currently unavailable", "try again later", status=r"3\.2", code="450"),
    _sign(Cause.GREYLISTING, "internal resources? ((are|is) )?temporarily unavailable", "come back later"),
    _sign(Cause.OTHER, "relay(ing)? (access )?(is )?(denied|not permitted|prohibited)"),
    # Too much, where the same reply has words of reputation as well.
    _sign(Cause.THROTTLING, "unusual rate", "unexpected volume", "(queue|sending|daily|hourly) quota"),
    _sign(Cause.DNS, "(spf|dkim|dmarc|domainkeys).{0,60}(temporary|transient|dns|lookup)", r"\btemperror\b"),
    _sign(
        Cause.REPUTATION,
        "reputation",
        "spam(haus|cop|rats|assassin| score| source)",
        "barracudacentral",
        "senderbase",
        "cloudmark",
        r"\brbl\b",
        "dnsbl",
        "rhsbl",
        "surbl",
        "uribl",
        "sorbs",
        "(black|block|deny)[ -]?list",
        "blocked (using|by|due|because|for|-|since|see)",
        "is blocked",
        "is filtered",
        r"ipcheck\.proofpoint",
        "(temporarily|been) (blocked|banned|restricted|suspended)",
        r"\bbanned\b",
        "access (temporarily )?denied",
        "s3150",
        "s3140",
        r"\btss(09|11)\b",
        "complaints",
        "too many (spam|bad mail)",
        "suspicious",
        "unsolicited",
        "unauthenticated",
        "not (pass|authenticated)",
        r"\bdmarc\b",
        r"\bspf\b",
        r"\bdkim\b",
        "looks like spam",
        "(likely|identified as|detected as|considered|contains?) (unsolicited|spam)",
        "spam (content|detected|message)",
        r"policy rejection\W+abuse",
        "policy (reasons|restrictions|violation)",
        "local policy",
        r"\b(dt:(rbl|spm)|wm:bl[iu]|hl:rep)\b",
    ),
    _sign(
        Cause.MAILBOX_FULL,
        r"(mailbox|inbox|user|recipient|account|storage|disk)\b.{0,60}\b(full|quota|out of (storage|space))\b",
        "over ?quota",
        "quota (is |has been )?exceeded",
        r"quota.{0,20}\b(mailbox|storage)\b",
        "mailbox size limit",
        r"(exceed\w*|over) (its|the|their|his|storage|mailbox|disk|allocated) .{0,20}(quota|storage|allocation)",
        "storage (limit|allocation)",
    ),
    _sign(
        Cause.THROTTLING,
        "rate[ -]?(is |was |has been )?(limit|control|exceeded|too)",
        "ratelimit",
        "throttl",
        r"\bflood",
        "too (many|much|frequent|fast|quick|often|busy)",
        "receiving mail (too|at a rate)",
        "slow(ly|ing)? down",
        "frequency",
        "excessive",
        "(?<!size )limits? (is |was |has been |have been )?(exceeded|reached)",
        r"exceed\w* .{0,60}(?<!size )(limit|rate|number|quota)\b",
        "limits? for how many",
        r"(connection|concurren\w+|session|message|sending|hourly|daily|recipient)s? (rate )?(limit|quota)s?\b",
        "max(imum)? (number|messages?|recipients?|concurrent|connections|simultaneous)",
        "concurrent",
        "simultaneous",
        "(server|system|service|ports?|host) (is|are|was)? ?(temporarily |currently |too )?(busy|overloaded)",
        "all server ports",
        "(high|heavy|system) (volume|load|traffic)",
        "load .{0,20}high",
        "congest",
        r"\b(mi:(cel|dmc|ccl|sfq|stc)|rp:(drc|qrc|ccl|cel)|hl:(itc|icc))\b",
    ),
    _sign(
        Cause.DNS,
        "cannot (find|resolve) your",
        r"(domain|host(name)?|\bmx)\b.{0,60}(not (found|exist)|unresolv|lookup fail)",
        "(does|do|could|did|can) ?(not|n't) (be )?resolve",
        "reverse (dns|hostname|lookup|ip)",
        r"\bptr\b",
        r"\brdns\b",
        r"\bdns\b.{0,40}(error|fail|timeout|timed|problem|lookup|query|resol)",
        r"no mx\b",
        "unresolvable",
    ),
    _sign(Cause.LOGIN, r"authenticat\w+ (server |service )?(fail|error|is |temporar|unavailable)", code="4[35]."),
    _sign(
        Cause.TLS_POLICY,
        "must issue a starttls",
        "encryption (is )?(required|needed)",
        r"\b(start)?tls (is |currently )?(required|needed|mandatory|not available|unavailable)",
        "(requires?|needs?|only accepts?) (encryption|tls|starttls|a secure)",
    ),
    _sign(
        Cause.OUTAGE,
        "shut(ting)? ?down",
        "maintenance",
        "insufficient",
        "queue file",
        "out of order",
        "no resources",
        "(system|server|service|host) (is )?(temporarily |currently )?(down|offline)",
        "service (is )?(temporarily |currently )?(unavailable|not (available|ready))",
        "local (problem|error)",
        "(internal|backend|software|database|ldap|configuration) (server )?(error|problem|fail)",
        "temporary (server|system|lookup|internal|database|backend) (error|problem|fail)",
        "server (configuration|error)",
        "licen[cs]e (has )?expired",
        "space shortage",
        "no (more )?space",
        "(disk|file) (system )?(space|full)",
        "(out|short) (of|on) (disk|memory|space)",
        "time[d-]? ?out",
        "connection (refused|dropped|reset|lost)",
        "unexpected failure",
        r"(virus|content|spam) (scanner|filter|scan\w*)\b.{0,40}(unavailable|fail|error|unable)",
        r"(not|unable to) (accept\w*|receiv\w+) (any )?(mail|network)? ?messages",
    ),
    # What the code most often means.
    _sign(Cause.THROTTLING, status=r"4\.5"),  # congestion
    _sign(Cause.OUTAGE, status=r"3\.\d+|4\.([012]|31[5-9])"),
    _sign(Cause.REPUTATION, status=r"7\.[5-9]\d\d"),  # Exchange Online
    _sign(Cause.REPUTATION, status=r"7\.\d+", code="5.."),  # in place of a greeting
    _sign(Cause.THROTTLING, status=r"7\.[01]", code="421"),
    _sign(Cause.GREYLISTING, status=r"7\.1", code="45[01]"),
    _sign(Cause.GREYLISTING, r"\blater\b", "again", "deferred", "retry", status=r"[0127]\.0", code="45[01]"),
    _sign(Cause.MAILBOX_FULL, code="422"),
    _sign(Cause.OUTAGE, status=r"0\.0", code="421|431|44[127]|452"),  # RFC 5321 §4.2.3
)


def cause_of(outcome: Deferred) -> Cause:
    """Why the message waits: what the code knew, or else what the reply says, or else our own status."""
    if outcome.cause is not None:
        return outcome.cause
    if outcome.reply is not None:
        return _of_reply(outcome.status, outcome.reply)
    return _of_our_status(outcome.status)


def _of_reply(status: Status, reply: Reply) -> Cause:
    short, code = f"{status.subject}.{status.detail}", str(reply.code)
    said = " ".join(reply.lines)[:_LONGEST].lower()
    words = " ".join(_ADDRESS.sub(" ", _ENHANCED.sub(" ", said)).split())
    return next((sign.cause for sign in _SIGNS if sign.fits(short, code, words)), Cause.OTHER)


def _of_our_status(status: Status) -> Cause:
    """Of a deferral without a reply, written down before causes were: what this status is used for here."""
    match status.subject, status.detail:
        case 7, 8:
            return Cause.LOGIN
        case (7, _) | (4, 8):
            return Cause.TLS_POLICY
        case 4, (3 | 4):
            return Cause.DNS
        case 4, _:
            return Cause.OUTAGE
        case 3, _:
            return Cause.LOCAL
    return Cause.OTHER
