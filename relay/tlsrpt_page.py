"""The pages of `relay tlsrpt show`: what a domain is told of a day, or all of them. Values in, text out.

Hosts, policies and answers are strangers' words: what is shown on a terminal is cleaned of control characters.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from relay.mail.duration import utc
from relay.show import clean, count
from relay.tlsrpt.outbox import Delivery, Ended, State
from relay.tlsrpt.reader import OfDay
from relay.tlsrpt.request import Result

_TYPES = {"tlsa": "DANE (TLSA)", "sts": "MTA-STS", "no-policy-found": "no policy"}
_RESULTS = {
    "starttls-not-supported": "STARTTLS was not offered, or refused",
    "certificate-host-mismatch": "the certificate is for other names",
    "certificate-expired": "the certificate has expired",
    "certificate-not-trusted": "the certificate is not trusted",
    "validation-failure": "TLS failed in another way",
    "tlsa-invalid": "the TLSA records cannot be used",
    "dnssec-invalid": "DNSSEC: the answers could not be validated",
    "dane-required": "DANE is required, and there is no TLSA record",
    "sts-policy-fetch-error": "the MTA-STS policy could not be fetched",
    "sts-policy-invalid": "the MTA-STS policy is invalid",
    "sts-webpki-invalid": "the certificate of the MTA-STS policy's host is not valid",
}
_HEADINGS = ("DOMAIN", "SUCCEEDED", "FAILED", "REPORT")

Object = Mapping[str, Any]


def told(ended: Ended) -> Object | None:
    """The document of a report that was made; None: there was none."""
    if ended.octets is None:
        return None
    found: Object = json.loads(gzip.decompress(ended.octets))
    return found


def of_domain(domain: str, day: date, preview: Object | None, ended: tuple[Ended, ...], is_today: bool) -> str:
    """The page of one domain. `preview`: what it would be told now. `is_today`: the day is not over."""
    lines = [f"{domain}, {day.isoformat()} (UTC)"]
    if preview is not None:
        more = " (so far: the day is not over)" if is_today else ""
        lines += ["", f"it would be told{more}:", *_document(preview)]
    for one in ended:
        document = told(one)
        if document is None:
            lines += ["", f"{utc(one.at)}: it was not told: {one.words}"]
        else:
            lines += ["", f"{utc(one.at)}: report {one.id}", *map(_delivery, one.deliveries), *_document(document)]
    return "\n".join(map(clean, lines))


def _document(report: Object) -> Iterator[str]:
    yield f"  from {report['organization-name']}, questions to {report['contact-info']}"
    for entry in report["policies"]:
        policy, summary = entry["policy"], entry["summary"]
        yield f"  {_TYPES[policy['policy-type']]}, {policy['policy-domain']}"
        for line in policy.get("policy-string", ()):
            yield f"    | {line}"
        good, bad = summary["total-successful-session-count"], summary["total-failure-session-count"]
        yield f"    {count(good, 'session')} succeeded, {bad} failed"
        for details in entry.get("failure-details", ()):
            yield from _failure(details)


def _failure(details: Object) -> Iterator[str]:
    result = details["result-type"]
    yield f"    {details['failed-session-count']} x {result}: {_RESULTS[result]}"
    host, address = details.get("receiving-mx-hostname", ""), details.get("receiving-ip")
    where = f"{host} [{address}]" if address else host
    parts = {
        "host": where,
        "it calls itself": details.get("receiving-mx-helo"),
        "from our": details.get("sending-mta-ip"),
        "because": details.get("failure-reason-code"),
    }
    shown = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    if shown:
        yield f"        {shown}"


def _delivery(one: Delivery) -> str:
    said = f" ({one.words})" if one.words else ""
    tries = f", {count(one.attempts, 'attempt')}" if one.attempts else ""
    if one.state is State.WAITS:
        when = f", next {utc(one.until)}" if one.until is not None else ""
        return f"  {one.uri}: waits{tries}{when}{said}"
    return f"  {one.uri}: {one.state.value} {utc(one.at)}{said}"


def of_day(day: date, found: OfDay, is_today: bool) -> str:
    """A line for each domain, and one for each report of it."""
    rows = [_HEADINGS]
    for domain, (good, bad) in found.totals.items():
        rows.append((domain, str(good), str(bad), "not before the day is over" if is_today else "not made yet"))
    rows += (_ended_row(one) for one in found.ended)
    if len(rows) == 1:
        return f"Nothing is counted on {day.isoformat()} (UTC)."
    rows[1:] = sorted(rows[1:])
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    domains = {row[0] for row in rows[1:]}
    return "\n".join(map(clean, (*lines, "", f"{count(len(domains), 'domain')} on {day.isoformat()} (UTC)")))


def _ended_row(one: Ended) -> tuple[str, str, str, str]:
    document = told(one)
    if document is None:
        return one.domain, "-", "-", f"none: {one.words}"
    summaries = [entry["summary"] for entry in document["policies"]]
    good, bad = (
        sum(summary[name] for summary in summaries)
        for name in ("total-successful-session-count", "total-failure-session-count")
    )
    return one.domain, str(good), str(bad), "; ".join(f"{to.uri} {to.state.value}" for to in one.deliveries)


def of_day_as_json(day: date, found: OfDay) -> str:
    """An object with a list: an object for each domain and report."""
    waiting: list[dict[str, object]] = [
        {"domain": domain, "successful": good, "failed": bad, "report": None, "why": None, "deliveries": []}
        for domain, (good, bad) in found.totals.items()
    ]
    return json.dumps(
        {"day": day.isoformat(), "domains": waiting + [_ended_object(one) for one in found.ended]}, indent=2
    )


def _ended_object(one: Ended) -> dict[str, object]:
    _, good, bad, _ = _ended_row(one)
    return {
        "domain": one.domain,
        "successful": None if one.octets is None else int(good),
        "failed": None if one.octets is None else int(bad),
        "report": one.id,
        "why": one.words or None,
        "deliveries": [_delivery_object(to) for to in one.deliveries],
    }


def _delivery_object(to: Delivery) -> dict[str, object]:
    return {
        "uri": to.uri,
        "state": to.state.value,
        "attempts": to.attempts,
        "next": None if to.until is None else to.until.isoformat().replace("+00:00", "Z"),
        "words": to.words or None,
        "at": to.at.isoformat().replace("+00:00", "Z"),
    }


def of_results(day: date, results: tuple[Result, ...]) -> str:
    """What became of the domains that were to be told now."""
    if not results:
        return f"Nothing is counted on {day.isoformat()} (UTC)."
    return "\n".join(clean(line) for one in results for line in _result(one))


def _result(one: Result) -> Iterator[str]:
    if one.told.report is None:
        yield f"{one.domain}: no report: {one.told.words or 'nothing was counted any more'}"
        return
    yield f"{one.domain}: report {one.told.report}" + (f" ({one.told.words})" if one.told.words else "")
    yield from map(_delivery, one.deliveries)


def of_results_as_json(day: date, results: tuple[Result, ...]) -> str:
    """An object with a list: an object for each domain."""
    domains = [
        {
            "domain": one.domain,
            "report": one.told.report,
            "why": one.told.words or None,
            "deliveries": [_delivery_object(to) for to in one.deliveries],
        }
        for one in results
    ]
    return json.dumps({"day": day.isoformat(), "domains": domains}, indent=2)
