"""The report that a domain gets of a day: a JSON document and the name of its file. Pure.

RFC 8460 section 4.4 (the document), 5.1 (the file name), 5.2 (compression).
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy
from relay.tlsrpt.counted import Counted

_ORDER = (PolicyType.TLSA, PolicyType.STS, PolicyType.NO_POLICY_FOUND)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the name of the organization, whom receivers may ask (an address), and the domain of the sender."""

    organization: str
    contact: str
    domain: str


def report_id(day: date, unique: str, reporter: Reporter) -> str:
    """The name of a report. `unique`: letters and digits, never the same twice."""
    return f"{day.isoformat()}.{unique}@{reporter.domain}"


def build_report(id: str, day: date, counts: Iterable[Counted], reporter: Reporter) -> dict[str, object]:
    """The document: every policy that was met that day (UTC), in an order of its own whatever that of `counts`."""
    by_policy: defaultdict[ReportedPolicy, list[Counted]] = defaultdict(list)
    for one in counts:
        by_policy[one.policy].append(one)
    return {
        "organization-name": reporter.organization,
        "date-range": {
            "start-datetime": f"{day.isoformat()}T00:00:00Z",
            "end-datetime": f"{day.isoformat()}T23:59:59Z",
        },
        "contact-info": reporter.contact,
        "report-id": id,
        "policies": [_of_policy(policy, by_policy[policy]) for policy in sorted(by_policy, key=_place)],
    }


def encode(report: dict[str, object]) -> bytes:
    """The octets of the document, in ASCII."""
    return json.dumps(report, separators=(",", ":")).encode("ascii")


def compress(octets: bytes) -> bytes:
    """The same, as it is sent: two runs give the same octets."""
    return gzip.compress(octets, mtime=0)


def file_name(id: str, day: date, told: str, reporter: Reporter) -> str:
    """What the compressed report is called when it goes to the domain `told`."""
    begin = datetime.combine(day, time(), UTC)
    end = begin + timedelta(days=1, seconds=-1)
    unique = "".join(character for character in id.partition("@")[0] if character.isascii() and character.isalnum())
    return f"{reporter.domain}!{told}!{int(begin.timestamp())}!{int(end.timestamp())}!{unique}.json.gz"


def _place(policy: ReportedPolicy) -> tuple[object, ...]:
    return _ORDER.index(policy.type), policy.domain, policy.strings, policy.mx


def _of_policy(policy: ReportedPolicy, counts: Iterable[Counted]) -> dict[str, object]:
    successful, failures = 0, defaultdict[Fault, int](int)
    for one in counts:
        if one.fault is None:
            successful += one.number
        else:
            failures[one.fault] += one.number
    found: dict[str, object] = {
        "policy": _policy(policy),
        "summary": {
            "total-successful-session-count": successful,
            "total-failure-session-count": sum(failures.values()),
        },
    }
    if failures:
        found["failure-details"] = [_details(fault, failures[fault]) for fault in sorted(failures, key=_place_of_fault)]
    return found


def _policy(policy: ReportedPolicy) -> dict[str, object]:
    """What there was, as it was published; where there was none, neither strings nor hosts."""
    found: dict[str, object] = {"policy-type": policy.type.value}
    if policy.strings:
        found["policy-string"] = list(policy.strings)
    found["policy-domain"] = policy.domain
    if policy.type is PolicyType.STS and policy.mx:
        found["mx-host"] = list(policy.mx)
    return found


def _place_of_fault(fault: Fault) -> tuple[str, ...]:
    return fault.result.value, fault.host, fault.address, fault.helo, fault.source, fault.reason


def _details(fault: Fault, number: int) -> dict[str, object]:
    found: dict[str, object] = {
        "result-type": fault.result.value,
        "sending-mta-ip": fault.source,
        "receiving-mx-hostname": fault.host,
        "receiving-mx-helo": fault.helo,
        "receiving-ip": fault.address,
        "failed-session-count": number,
        "failure-reason-code": fault.reason,
    }
    return {name: value for name, value in found.items() if value != ""}
