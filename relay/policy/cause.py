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


def _sign(cause: Cause, *, status: str = "", code: str = "", words: str = "") -> _Sign:
    """`status` and `code` must fit whole, `words` (in lower case, one space between them) somewhere."""

    def pattern(text: str) -> re.Pattern[str] | None:
        return re.compile(text, re.VERBOSE) if text else None

    return _Sign(cause, pattern(status), pattern(code), pattern(words))


# The first line that fits decides. Spaces in `words` are written \s, as the patterns are laid out (re.VERBOSE).
_SIGNS = (
    # What leaves no doubt. RFC 3463 §3, RFC 7372; 7.26 to 7.40 as Google uses them.
    _sign(Cause.MAILBOX_FULL, status=r"2\.2"),
    _sign(Cause.MAILBOX_FULL, code="422"),
    _sign(Cause.THROTTLING, status=r"5\.3 | 7\.28"),
    _sign(Cause.TLS_POLICY, status=r"7\.29", words=r"\btls\b"),
    _sign(Cause.REPUTATION, status=r"7\.(2[0-3] | 26 | 27 | 29 | 30 | 32 | 40)"),
    _sign(Cause.DNS, status=r"1\.8 | 4\.3 | 7\.2[45] | 4\.31[0-4]"),
    _sign(Cause.LOGIN, status=r"7\.(8 | 9 | 11 | 12)"),  # RFC 4954 §6
    _sign(Cause.TLS_POLICY, status=r"7\.(4 | 10)"),
    # Greylisting by name, and those that never say its name: postscreen, Mimecast, Yandex.
    _sign(Cause.GREYLISTING, words=r"gr[ae]y[\s-]?list | postgrey | gr[ae]ylst"),
    _sign(Cause.GREYLISTING, status=r"3\.2", code="450", words=r"service\scurrently\sunavailable | try\sagain\slater"),
    _sign(Cause.GREYLISTING, words=r"internal\sresources?\s((are|is)\s)?temporarily\sunavailable | come\sback\slater"),
    _sign(Cause.OTHER, words=r"relay(ing)?\s(access\s)?(is\s)?(denied|not\spermitted|prohibited)"),
    # Too much, where the same reply has words of reputation as well.
    _sign(Cause.THROTTLING, words=r"unusual\srate | unexpected\svolume"),
    _sign(Cause.DNS, words=r"(spf|dkim|dmarc|domainkeys).{0,60}(temporary|transient|dns|lookup) | \btemperror\b"),
    _sign(
        Cause.REPUTATION,
        words=r"""reputation | spam(haus|cop|rats|assassin|\sscore|\ssource) | barracudacentral | senderbase | cloudmark
        | \brbl\b | dnsbl | rhsbl | surbl | uribl | sorbs | (black|block|deny)[\s-]?list
        | blocked\s(using|by|due|because|for|-|since|see) | is\sblocked | is\sfiltered | ipcheck\.proofpoint
        | (temporarily|been)\s(blocked|banned|restricted|suspended) | \bbanned\b | access\s(temporarily\s)?denied
        | s3150 | s3140 | \btss(09|11)\b | complaints | too\smany\s(spam|bad\smail) | suspicious | unsolicited
        | unauthenticated | not\s(pass|authenticated) | \bdmarc\b | \bspf\b | \bdkim\b | looks\slike\sspam
        | (likely|identified\sas|detected\sas|considered|contains?)\s(unsolicited|spam)
        | spam\s(content|detected|message)
        | policy\s(reasons|restrictions|violation) | local\spolicy | \b(dt:(rbl|spm)|wm:bl[iu]|hl:rep)\b""",
    ),
    _sign(
        Cause.MAILBOX_FULL,
        words=r"""(mailbox|inbox|user|recipient|account|storage|disk)\b.{0,60}\b(full|quota|out\sof\s(storage|space))\b
        | over\s?quota | quota\s(is\s)?exceeded\s\(mailbox | quota.{0,20}\b(mailbox|storage)\b | mailbox\ssize\slimit
        | (exceed\w*|over)\s(its|the|their|his|storage|mailbox|disk|allocated)\s.{0,20}(quota|storage|allocation)
        | storage\s(limit|allocation)""",
    ),
    _sign(
        Cause.THROTTLING,
        words=r"""rate[\s-]?(is\s|was\s|has\sbeen\s)?(limit|control|exceeded|too) | ratelimit | throttl | \bflood
        | too\s(many|much|frequent|fast|quick|often|busy) | receiving\smail\s(too|at\sa\srate) | slow(er|ing)?\sdown
        | more\sslowly | frequen(cy|t)\slimit | frequency | (?<!size\s)limits?\s(is\s|was\s|has\sbeen\s|have\sbeen\s)?
        (exceeded|reached) | exceed\w*\s.{0,60}(?<!size\s)(limit|rate|number|quota)\b | limits?\sfor\show\smany
        | (connection|concurren\w+|session|message|sending|hourly|daily|recipient)s?\s(rate\s)?(limit|quota)s?\b
        | maximum\s(number|concurrent|connections|simultaneous) | concurrent | simultaneous
        | (server|system|service|ports?|host)\s(is|are|was)?\s?(temporarily\s|currently\s|too\s)?(busy|overloaded)
        | all\sserver\sports | (high|heavy|system)\s(volume|load|traffic) | load\s.{0,20}high | congest
        | \b(mi:(cel|dmc|ccl|sfq|stc)|rp:(drc|qrc|ccl|cel)|hl:(itc|icc))\b""",
    ),
    _sign(
        Cause.DNS,
        words=r"""cannot\s(find|resolve)\syour
        | (domain|host(name)?|\bmx)\b.{0,60}(not\s(found|exist)|unresolv|lookup\sfail)
        | (does|do|could|did|can)\s?(not|n't)\s(be\s)?resolve | reverse\s(dns|hostname|lookup|ip) | \bptr\b | \brdns\b
        | \bdns\b.{0,40}(error|fail|timeout|timed|problem|lookup|query|resol) | no\smx\b | unresolvable""",
    ),
    _sign(
        Cause.LOGIN, code="4[35].", words=r"authenticat\w+\s(server\s|service\s)?(fail|error|is\s|temporar|unavailable)"
    ),
    _sign(
        Cause.TLS_POLICY,
        words=r"""must\sissue\sa\sstarttls | encryption\s(is\s)?(required|needed)
        | \b(start)?tls\s(is\s|currently\s)?(required|needed|mandatory|not\savailable|unavailable)
        | (requires?|needs?|only\saccepts?)\s(encryption|tls|starttls|a\ssecure)""",
    ),
    _sign(
        Cause.OUTAGE,
        words=r"""shut(ting)?\s?down | maintenance | insufficient | queue\sfile | out\sof\sorder | no\sresources
        | (system|server|service|host)\s(is\s)?(temporarily\s|currently\s)?(down|offline)
        | service\s(is\s)?(temporarily\s|currently\s)?(unavailable|not\s(available|ready)) | local\s(problem|error)
        | (internal|backend|software|database|ldap|configuration)\s(server\s)?(error|problem|fail)
        | temporary\s(server|system|lookup|internal|database|backend)\s(error|problem|fail)
        | server\s(configuration|error) | space\sshortage | no\s(more\s)?space | (disk|file)\s(system\s)?(space|full)
        | (out|short)\s(of|on)\s(disk|memory|space) | time[d-]?\s?out | connection\s(refused|dropped|reset|lost)
        | unexpected\sfailure | (virus|content|spam)\s(scanner|filter|scan\w*)\b.{0,40}(unavailable|fail|error|unable)
        | (not|unable\sto)\s(accept\w*|receiv\w+)\s(any\s)?(mail|network)?\s?messages""",
    ),
    # What the code most often means.
    _sign(Cause.THROTTLING, status=r"4\.5"),  # congestion
    _sign(Cause.OUTAGE, status=r"3\.\d+ | 4\.([012] | 31[5-9])"),
    _sign(Cause.REPUTATION, status=r"7\.[5-9]\d\d"),  # Exchange Online
    _sign(Cause.REPUTATION, status=r"7\.\d+", code="5.."),  # in place of a greeting
    _sign(Cause.THROTTLING, status=r"7\.[01]", code="421"),
    _sign(Cause.GREYLISTING, status=r"7\.1", code="45[01]"),
    _sign(Cause.GREYLISTING, status=r"[0127]\.0", code="45[01]", words=r"\blater\b | again | deferred | retry"),
    _sign(Cause.OUTAGE, status=r"0\.0", code="421 | 431 | 44[127] | 452"),  # RFC 5321 §4.2.3
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
