"""What a report says. RFC 8460 sections 4.4 and 5.1; its schema is tests/data/tlsrpt-schema.json."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import json_schema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.report import Reporter, build_report, compress, encode, file_name, report_id

SCHEMA = json.loads((Path(__file__).parents[2] / "data" / "tlsrpt-schema.json").read_text())
DAY = date(2030, 1, 1)
US = Reporter("Example Inc.", "tls@r.example", "r.example")
ID = "2030-01-01.8f3c@r.example"
STS = ReportedPolicy(
    PolicyType.STS,
    "a.example",
    ("version: STSv1", "mode: enforce", "mx: *.a.example", "max_age: 86400"),
    ("*.a.example",),
)
TLSA = ReportedPolicy(PolicyType.TLSA, "mx.a.example", ("3 1 1 00FF", "2 0 1 AA"))
NONE = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "a.example")
EXPIRED = Fault(
    ReportResult.CERTIFICATE_EXPIRED, "10", "mx.a.example", "helo.a.example", address="192.0.2.1", source="2001:db8::1"
)
BOGUS = Fault(ReportResult.DNSSEC_INVALID, host="mx.a.example")

# Appendix B of the RFC, in our words and order.
OF_THE_RFC: dict[str, Any] = {
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"],
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:0012::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "starttls-not-supported",
                    "sending-mta-ip": "2001:db8:abcd:0013::1",
                    "receiving-mx-hostname": "mx2.mail.company-y.example",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 200,
                    "additional-information": "https://reports.company-x.example/report_info?id=5065427c",
                },
                {
                    "result-type": "validation-failure",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-ip": "203.0.113.58",
                    "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                    "failed-session-count": 3,
                    "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                },
            ],
        }
    ],
}


def problems(report: object) -> list[str]:
    return list(json_schema.problems(report, SCHEMA, SCHEMA))


def test_the_whole_of_a_report() -> None:
    counts = (
        Counted(NONE, None, 5),
        Counted(STS, BOGUS, 2),
        Counted(STS, None, 7),
        Counted(STS, EXPIRED, 1),
        Counted(TLSA, None, 3),
    )
    assert build_report(ID, DAY, counts, US) == {
        "organization-name": "Example Inc.",
        "date-range": {"start-datetime": "2030-01-01T00:00:00Z", "end-datetime": "2030-01-01T23:59:59Z"},
        "contact-info": "tls@r.example",
        "report-id": ID,
        "policies": [
            {
                "policy": {
                    "policy-type": "tlsa",
                    "policy-string": ["3 1 1 00FF", "2 0 1 AA"],
                    "policy-domain": "mx.a.example",
                },
                "summary": {"total-successful-session-count": 3, "total-failure-session-count": 0},
            },
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": ["version: STSv1", "mode: enforce", "mx: *.a.example", "max_age: 86400"],
                    "policy-domain": "a.example",
                    "mx-host": ["*.a.example"],
                },
                "summary": {"total-successful-session-count": 7, "total-failure-session-count": 3},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "2001:db8::1",
                        "receiving-mx-hostname": "mx.a.example",
                        "receiving-mx-helo": "helo.a.example",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 1,
                        "failure-reason-code": "10",
                    },
                    {
                        "result-type": "dnssec-invalid",
                        "receiving-mx-hostname": "mx.a.example",
                        "failed-session-count": 2,
                    },
                ],
            },
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "a.example"},
                "summary": {"total-successful-session-count": 5, "total-failure-session-count": 0},
            },
        ],
    }


def test_the_schema_knows_a_report_from_others() -> None:
    assert problems(OF_THE_RFC) == []
    (policy,) = OF_THE_RFC["policies"]
    bad: list[dict[str, Any]] = [
        {name: value for name, value in OF_THE_RFC.items() if name != "contact-info"},
        OF_THE_RFC | {"policies": []},
        OF_THE_RFC | {"date-range": {"start-datetime": "2016-04-01", "end-datetime": "yesterday"}},
        OF_THE_RFC | {"policies": [policy | {"policy": policy["policy"] | {"policy-type": "dane"}}]},
        OF_THE_RFC | {"policies": [policy | {"summary": {"total-successful-session-count": -1}}]},
        OF_THE_RFC | {"policies": [policy | {"failure-details": [{"result-type": "bad", "failed-session-count": 1}]}]},
        OF_THE_RFC
        | {"policies": [policy | {"failure-details": [policy["failure-details"][0] | {"receiving-ip": "mx"}]}]},
    ]
    for report in bad:
        assert problems(report), report


texts = st.text(max_size=30)
addresses = st.sampled_from(["", "192.0.2.1", "2001:db8::1"])
faults = st.builds(Fault, st.sampled_from(ReportResult), texts, texts, texts, address=addresses, source=addresses)
domains = st.sampled_from(["a.example", "mx.a.example", "xn--bcher-kva.example"])
policies = st.builds(
    ReportedPolicy,
    st.sampled_from(PolicyType),
    domains,
    st.lists(texts, max_size=2).map(tuple),
    st.lists(st.text(min_size=1, max_size=9), max_size=2).map(tuple),
)
counted = st.builds(Counted, policies, st.none() | faults, st.integers(1, 1 << 40))


@settings(max_examples=40)
@given(st.lists(counted, min_size=1, max_size=6))
def test_any_counts_make_a_report_with_the_right_sums(counts: list[Counted]) -> None:
    octets = encode(build_report(ID, DAY, counts, US))
    report = json.loads(octets)
    assert problems(report) == []
    assert len(report["policies"]) == len({one.policy for one in counts})
    good = sum(one["summary"]["total-successful-session-count"] for one in report["policies"])
    assert good == sum(one.number for one in counts if one.fault is None)
    for policy in report["policies"]:
        details = [one["failed-session-count"] for one in policy.get("failure-details", ())]
        assert policy["summary"]["total-failure-session-count"] == sum(details)
    bad = sum(one["summary"]["total-failure-session-count"] for one in report["policies"])
    assert good + bad == sum(one.number for one in counts)
    assert encode(build_report(ID, DAY, reversed(counts), US)) == octets
    assert gzip.decompress(compress(octets)) == octets
    assert compress(octets) == compress(octets)


@pytest.mark.parametrize(
    ("day", "seconds"), [(DAY, "1893456000!1893542399"), (date(2016, 12, 31), "1483142400!1483228799")]
)
def test_names(day: date, seconds: str) -> None:
    id = report_id(day, "8f3c", US)
    assert id == f"{day}.8f3c@r.example"
    unique = f"{day:%Y%m%d}8f3c"
    assert file_name(id, day, "a.example", US) == f"r.example!a.example!{seconds}!{unique}.json.gz"
