"""What the lab asks of TLS reports: one that is right passes, and each fault of form is told."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from relay.lab.http import Request
from relay.lab.reports import MEDIA_TYPE, Arrived, from_mail, from_post, in_words, places, told_by_mail

DAY = date(2026, 3, 1)
STS = {
    "policy": {
        "policy-type": "sts",
        "policy-string": ["version: STSv1", "mode: enforce", "mx: mx.a.test", "max_age: 86400"],
        "policy-domain": "a.test",
        "mx-host": ["mx.a.test"],
    },
    "summary": {"total-successful-session-count": 3, "total-failure-session-count": 2},
    "failure-details": [
        {
            "result-type": "certificate-not-trusted",
            "sending-mta-ip": "127.0.0.1",
            "receiving-mx-hostname": "mx.a.test",
            "receiving-ip": "127.0.0.2",
            "failed-session-count": 2,
            "failure-reason-code": "self-signed",
        }
    ],
}
TLSA = {
    "policy": {"policy-type": "tlsa", "policy-string": [f"3 1 1 {64 * 'a'}"], "policy-domain": "mx.a.test"},
    "summary": {"total-successful-session-count": 5, "total-failure-session-count": 0},
}
REPORT: dict[str, Any] = {
    "organization-name": "Relay's lab",
    "date-range": {"start-datetime": "2026-03-01T00:00:00Z", "end-datetime": "2026-03-01T23:59:59Z"},
    "contact-info": "postmaster@relay.lab.test",
    "report-id": "1@relay.lab.test",
    "policies": [STS, TLSA],
}
HEADER = {
    "DKIM-Signature": "v=1; d=relay.lab.test; s=lab; b=",
    "From": "<tls-reports@relay.lab.test>",
    "Subject": "Report Domain: a.test\r\n Submitter: relay.lab.test\r\n Report-ID: <1@relay.lab.test>",
    "TLS-Report-Domain": "a.test",
    "TLS-Report-Submitter": "relay.lab.test",
    "TLS-Required": "No",
    "MIME-Version": "1.0",
    "Content-Type": 'multipart/report; report-type="tlsrpt"; boundary="b"',
}
FILE_NAME = "relay.lab.test!a.test!1772323200!1772409599!1.json.gz"


def request(report: object = REPORT, **changes: Any) -> Request:
    given = {"method": "POST", "target": "/", "host": "reports.a.test", "fields": {"content-type": MEDIA_TYPE}}
    return Request(**{**given, "body": gzip.compress(json.dumps(report).encode()), **changes})


def posted(report: object = REPORT, **changes: Any) -> Arrived:
    return from_post(request(report, **changes), "a.test")


def mail(
    header: dict[str, str] = HEADER, part: str = MEDIA_TYPE, name: str = FILE_NAME, first: str = "text/plain"
) -> bytes:
    head = "".join(f"{field}: {text}\r\n" for field, text in header.items())
    enclosed = base64.encodebytes(gzip.compress(json.dumps(REPORT).encode())).decode()
    body = (
        f"--b\r\nContent-Type: {first}\r\n\r\nWords.\r\n--b\r\nContent-Type: {part}\r\n"
        f'Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename="{name}"\r\n\r\n'
        f"{enclosed}\r\n--b--\r\n"
    )
    return f"Received: by x\r\n{head}\r\n{body}".encode()


def mailed(*arguments: Any, **changes: Any) -> Arrived:
    return from_mail(mail(*arguments, **changes))


@pytest.mark.parametrize("found", [posted(), mailed()], ids=["posted", "mailed"])
def test_a_right_one(found: Arrived) -> None:
    assert found.faults == ()
    assert (found.id, found.day) == ("1@relay.lab.test", DAY)
    assert found.told == {"sts ok": 3, "sts certificate-not-trusted": 2, "tlsa mx ok": 5}


def test_whom_a_mail_tells() -> None:
    assert told_by_mail(mail()) == "a.test"
    assert told_by_mail(b"From: a@a.test\r\nSubject: TLS-Report-Domain: a.test\r\n\r\n") is None


def changed(header: str, text: str | None) -> dict[str, str]:
    return {name: value for name, value in {**HEADER, header: text}.items() if value is not None}


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (mailed(changed("DKIM-Signature", None)), "no DKIM-Signature of the submitter"),
        (mailed(changed("DKIM-Signature", "v=1; d=b.test; s=lab; b=")), "no DKIM-Signature of the submitter"),
        (mailed(changed("DKIM-Signature", HEADER["DKIM-Signature"] + "; l=9")), "a DKIM-Signature with l="),
        (mailed(changed("From", "<tls@b.test>")), "From <tls@b.test>"),
        (mailed(changed("Subject", "Report")), "Subject Report"),
        (mailed(changed("TLS-Required", None)), "no TLS-Required: No"),
        (mailed(changed("TLS-Report-Submitter", None)), "TLS-Report-Submitter None"),
        (mailed(changed("Content-Type", 'multipart/report; boundary="b"')), "no report-type=tlsrpt"),
        (mailed(changed("Content-Type", 'multipart/mixed; report-type=tlsrpt; boundary="b"')), "it is multipart/mixed"),
        (mailed(part="application/gzip"), "0 parts are application/tlsrpt+gzip"),
        (mailed(first="text/html"), "its first part is not text"),
        (mailed(name="report.json.gz"), "file name report.json.gz"),
        (mailed(name=FILE_NAME.replace("1772409599", "1772409600")), "file name relay"),
        (mailed(name=FILE_NAME.replace("!a.test", "!b.test")), "file name relay"),
        (posted(method="PUT"), "sent with PUT"),
        (posted(fields={"content-type": "application/json"}), "Content-Type application/json"),
        (posted(fields={"content-type": MEDIA_TYPE, "content-encoding": "gzip"}), "a Content-Encoding"),
        (posted(body=b"{}"), "no gzip (Not a gzipped file (b'{}'))"),
        (posted({}), "not by the schema (KeyError('date-range'))"),
        (posted([]), "not by the schema (TypeError('list indices must be integers or slices, not str'))"),
        (posted({**REPORT, "policies": []}), "no policies"),
        (posted({**REPORT, "report-id": ""}), "no report-id"),
        (posted({**REPORT, "contact-info": "x"}), "reported by Relay's lab, x"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_faults_of_form(found: Arrived, fault: str) -> None:
    (told,) = found.faults
    assert told.startswith(fault)


def of_strings(report: Any) -> Any:
    return report["policies"][0]["policy"]


def of_summary(report: Any) -> Any:
    return report["policies"][0]["summary"]


def of_failure(report: Any) -> Any:
    return report["policies"][0]["failure-details"][0]


def of_tlsa(report: Any) -> Any:
    return report["policies"][1]["policy"]


def of_range(report: Any) -> Any:
    return report["date-range"]


@pytest.mark.parametrize(
    ("where", "name", "value", "fault"),
    [
        (of_range, "start-datetime", "2026-03-01T01:00:00Z", "not a day in UTC"),
        (of_range, "end-datetime", "2026-03-02T00:00:00Z", "not a day in UTC"),
        (of_range, "end-datetime", "yesterday", "not by the schema"),
        (of_summary, "total-failure-session-count", 3, "sts: 3 failures, and other counts in failure-details"),
        (of_summary, "total-successful-session-count", -3, "sts: a policy or a failure without sessions"),
        (of_failure, "failed-session-count", 0, "sts: 2 failures, and other counts"),
        (of_failure, "result-type", "certificate-wrong", "sts: no such result as certificate-wrong"),
        (of_failure, "receiving-mx-hostname", "", "sts: certificate-not-trusted without receiving-mx-hostname"),
        (of_failure, "sending-mta-ip", "here", "not by the schema"),
        (of_failure, "receiving-ip", None, "not by the schema"),
        (of_failure, "failure-reason-code", "", "sts: certificate-not-trusted without failure-reason-code"),
        (of_strings, "policy-string", [], "sts: policy-string []"),
        (of_strings, "mx-host", [], "sts: policy-string ['version: STSv1'"),
        (of_strings, "policy-domain", "b.test", "sts: policy-domain b.test"),
        (of_strings, "policy-type", "no-policy-found", "no-policy-found: policy-string ['version: STSv1'"),
        (of_strings, "policy-type", "dane", "dane: policy-string"),
        (of_tlsa, "policy-string", ["3 1 1"], "tlsa: policy-string ['3 1 1']"),
    ],
)
def test_faults_of_the_document(where: Callable[[Any], Any], name: str, value: object, fault: str) -> None:
    report = copy.deepcopy(REPORT)
    where(report)[name] = value
    found = posted(report)
    assert found.faults
    assert found.faults[0].startswith(fault)


def test_in_words() -> None:
    words = frozenset({"sts ok x3", "sts certificate-not-trusted x2", "tlsa mx ok x5"})
    yesterday = DAY - timedelta(days=1)
    assert in_words([mail()], "a.test", DAY) == (words, ())
    assert in_words([request()], "a.test", DAY) == (frozenset(f"https: {text}" for text in words), ())
    assert in_words([request()], "a.test", yesterday) == (frozenset(f"https: day 2: {text}" for text in words), ())
    assert in_words([mail(), request()], "a.test", DAY)[1] == ()
    assert in_words([mail(), mail()], "a.test", DAY)[1] == ("2 reports of 2026-03-01 in one place",)
    assert in_words([request()], "b.test", DAY)[1] == ("sts: policy-domain a.test",)


def test_how_many_reports_must_come() -> None:
    assert places(()) == set()
    assert places(("sts ok", "tlsa mx ok x2", "https: sts ok", "day 2: sts ok", "https: day 2: sts ok")) == {
        "", "https", "day 2", "https: day 2"
    }  # fmt: skip
