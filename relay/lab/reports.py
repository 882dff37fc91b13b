"""Reads the TLS reports that arrived at the lab, and says what is wrong with their form. Pure.

It shares nothing with the code that writes them: what it asks for is taken from RFC 8460, section 4.4 (the JSON), 5.1
(file name), 5.2 (compression), 5.3 (mail) and 5.4 (HTTPS).
"""

from __future__ import annotations

import email
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.message import Message
from ipaddress import ip_address
from typing import Any

from relay.lab.http import Request

MEDIA_TYPE = "application/tlsrpt+gzip"
ORGANIZATION, CONTACT, SUBMITTER = "Relay's lab", "postmaster@relay.lab.test", "relay.lab.test"
POLICY_TYPES = ("tlsa", "sts", "no-policy-found")
RESULTS = (  # RFC 8460 section 4.3
    "starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted",
    "validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error",
    "sts-policy-invalid", "sts-webpki-invalid",
)  # fmt: skip
_BEFORE_SESSIONS = RESULTS[5:]  # no host was connected to
_WITHOUT_SESSION = ("validation-failure",)  # a host that an MTA-STS policy does not list
_TLSA = re.compile(r"[0-9]+ [0-9]+ [0-9]+ [0-9A-Fa-f]+")
_FILE_NAME = re.compile(r"([^!]+)!([^!]+)!([0-9]+)!([0-9]+)(?:![A-Za-z0-9.\-]+)?\.json\.gz")
_TOLD = re.compile(rb"\r\nTLS-Report-Domain: (\S+)\r\n")
_SUBJECT = re.compile(r"Report Domain: (\S+) Submitter: (\S+) Report-ID: <(\S+@\S+)>")

Written = bytes | Request  # a report as it comes: a message, or what was posted


@dataclass(frozen=True, slots=True)
class Arrived:
    """A report, at a mailbox or (`posted`) an HTTPS endpoint. `told` counts sessions as `Expected.reported` names them.

    `faults`: what is wrong with its form, a clause each; `day` is None when that cannot be read.
    """

    id: str
    day: date | None
    told: Mapping[str, int]
    posted: bool
    faults: tuple[str, ...]


def told_by_mail(octets: bytes) -> str | None:
    """The domain that a message tells of its TLS; None: it is no report."""
    found = _TOLD.search(octets)
    return found[1].decode("latin-1") if found else None


def from_mail(octets: bytes) -> Arrived:
    """The report in a message that reached a mailbox, for which `told_by_mail` has a domain."""
    domain = told_by_mail(octets) or ""
    message = email.message_from_bytes(octets)
    parts = [part for part in message.walk() if part.get_content_type() == MEDIA_TYPE]
    if len(parts) != 1:
        return Arrived("", None, {}, False, (f"{len(parts)} parts are {MEDIA_TYPE}",))
    report = _read(parts[0].get_payload(decode=True), domain, posted=False)
    return _blamed(report, _faults_of_mail(message, report, parts[0].get_filename() or "", domain))


def from_post(request: Request, domain: str) -> Arrived:
    """The report that was posted to an endpoint of `domain`."""
    report = _read(request.body, domain, posted=True)
    faults = []
    if request.method != "POST":
        faults.append(f"sent with {request.method}")
    if request.fields.get("content-type") != MEDIA_TYPE:
        faults.append(f"Content-Type {request.fields.get('content-type')}")
    if "content-encoding" in request.fields:
        faults.append("a Content-Encoding: gzip is in the media type already")
    return _blamed(report, faults)


def in_words(written: Iterable[Written], domain: str, first: date) -> tuple[frozenset[str], tuple[str, ...]]:
    """What reports tell `domain`, as `Expected.reported` has it, and what is wrong. `first`: the lab's first day."""
    reports = [from_mail(one) if isinstance(one, bytes) else from_post(one, domain) for one in written]
    told = {text for report in reports for text in _in_words(report, first)}
    places = Counter((report.posted, report.day) for report in reports)
    faults = [fault for report in reports for fault in report.faults]
    faults += [f"{count} reports of {day} in one place" for (_, day), count in places.items() if count > 1]
    return frozenset(told), tuple(faults)


def _in_words(report: Arrived, first: date) -> Iterator[str]:
    number = 0 if report.day is None else (report.day - first).days + 1
    prefix = f"{'https: ' if report.posted else ''}{f'day {number}: ' if number != 1 else ''}"
    for name, count in report.told.items():
        yield f"{prefix}{name}{f' x{count}' if count != 1 else ''}"


def places(told: Iterable[str]) -> frozenset[str]:
    """What is in front of texts of `Expected.reported`: one for each report that must come."""
    return frozenset(text.rpartition(": ")[0] for text in told)


def _blamed(report: Arrived, faults: list[str]) -> Arrived:
    return Arrived(report.id, report.day, report.told, report.posted, (*report.faults, *faults))


def _faults_of_mail(message: Message, report: Arrived, file_name: str, domain: str) -> list[str]:
    subject = " ".join(str(message["Subject"]).split())
    written = _SUBJECT.fullmatch(subject)
    named = _FILE_NAME.fullmatch(file_name)
    signature = "".join(str(message["DKIM-Signature"]).split())
    faults = {
        "no DKIM-Signature of the submitter": f";d={SUBMITTER};" not in signature,
        "a DKIM-Signature with l=": ";l=" in signature,  # RFC 8460 section 3
        f"it is {message.get_content_type()}": message.get_content_type() != "multipart/report",
        "no report-type=tlsrpt": message.get_param("report-type") != "tlsrpt",
        f"TLS-Report-Submitter {message['TLS-Report-Submitter']}": message["TLS-Report-Submitter"] != SUBMITTER,
        f"From {message['From']}": not str(message["From"]).rstrip(">").endswith(f"@{SUBMITTER}"),
        "no TLS-Required: No": message["TLS-Required"] != "No",
        f"Subject {subject}": written is None or written.group(1, 2) != (domain, SUBMITTER),
        "its first part is not text": [part.get_content_type() for part in message.walk()][1] != "text/plain",
        f"file name {file_name}": named is None
        or named.group(1, 2) != (SUBMITTER, domain)
        or _utc_day(int(named[3]), int(named[4])) != report.day,
    }
    return [fault for fault, is_there in faults.items() if is_there]


def _utc_day(begin: int, end: int) -> date | None:
    """The day whose first and last second these are, in seconds since 1970."""
    first, last = (datetime.fromtimestamp(seconds, UTC) for seconds in (begin, end))
    return first.date() if last - first == timedelta(days=1, seconds=-1) else None


def _read(octets: Any, domain: str, *, posted: bool) -> Arrived:
    """A compressed report."""
    try:
        report = json.loads(gzip.decompress(octets))
        return _of_json(report, domain, posted=posted)
    except (OSError, EOFError, zlib.error) as error:
        return Arrived("", None, {}, posted, (f"no gzip ({error})",))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # AttributeError: a list where an object belongs
        return Arrived("", None, {}, posted, (f"not by the schema ({error!r})",))


def _of_json(report: Mapping[str, Any], domain: str, *, posted: bool) -> Arrived:
    start, end = (datetime.fromisoformat(report["date-range"][f"{which}-datetime"]) for which in ("start", "end"))
    day = _utc_day(int(start.timestamp()), int(end.timestamp()))
    told: Counter[str] = Counter()
    faults = [] if report["policies"] else ["no policies"]
    for policy in report["policies"]:
        for text, count in _counts(policy, domain):
            told[text] += count
        faults += _faults_of_policy(policy, domain)
    if day is None or start.time() != start.min.time():
        faults.append(f"not a day in UTC: {start} to {end}")
    if report["organization-name"] != ORGANIZATION or report["contact-info"] != CONTACT:
        faults.append(f"reported by {report['organization-name']}, {report['contact-info']}")
    if not isinstance(report["report-id"], str) or not report["report-id"]:
        faults.append("no report-id")
    return Arrived(str(report["report-id"]), day, told, posted, tuple(faults))


def _counts(policy: Mapping[str, Any], domain: str) -> Iterator[tuple[str, int]]:
    """What is told of a policy, and of how many sessions."""
    of = policy["policy"]["policy-domain"]
    where = "" if of == domain else f" {of.removesuffix(f'.{domain}')}"
    name = f"{policy['policy']['policy-type']}{where}"
    if policy["summary"]["total-successful-session-count"]:
        yield f"{name} ok", policy["summary"]["total-successful-session-count"]
    for detail in policy.get("failure-details", ()):
        yield f"{name} {detail['result-type']}", detail["failed-session-count"]


def _faults_of_policy(policy: Mapping[str, Any], domain: str) -> Iterator[str]:
    """RFC 8460 section 4.4: what must be there, and that the counts agree."""
    of, summary, details = policy["policy"], policy["summary"], policy.get("failure-details", ())
    kind, strings = of["policy-type"], of.get("policy-string", ())
    successful, failed = (summary[f"total-{which}-session-count"] for which in ("successful", "failure"))
    if failed != sum(detail["failed-session-count"] for detail in details):
        yield f"{kind}: {failed} failures, and other counts in failure-details"
    if successful < 0 or successful + failed <= 0 or any(detail["failed-session-count"] <= 0 for detail in details):
        yield f"{kind}: a policy or a failure without sessions"
    for detail in details:
        yield from (f"{kind}: {fault}" for fault in _faults_of_failure(detail))
    if kind != "tlsa" and of["policy-domain"] != domain:
        yield f"{kind}: policy-domain {of['policy-domain']}"
    was_had = successful or any(detail["result-type"] not in _BEFORE_SESSIONS for detail in details)
    proper = {
        "sts": bool(of.get("mx-host")) and any(line.startswith("version:") for line in strings),
        "tlsa": bool(strings) and all(_TLSA.fullmatch(record) for record in strings),
        "no-policy-found": not strings,
    }
    if kind not in proper or (was_had and not proper[kind]):
        yield f"{kind}: policy-string {strings}, mx-host {of.get('mx-host')}"


def _faults_of_failure(detail: Mapping[str, Any]) -> Iterator[str]:
    result = detail["result-type"]
    if result not in RESULTS:
        yield f"no such result as {result}"
    if result in _BEFORE_SESSIONS:
        return
    if not detail.get("receiving-mx-hostname"):
        yield f"{result} without receiving-mx-hostname"
    for name in ("sending-mta-ip", "receiving-ip"):
        if name in detail or result not in _WITHOUT_SESSION:
            ip_address(detail[name])
    if result in ("certificate-not-trusted", "validation-failure") and not detail.get("failure-reason-code"):
        yield f"{result} without failure-reason-code"
