"""`relay tlsrpt show` as a person types it, while the service has the file and when it does not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import json_schema
import pytest
from click.testing import CliRunner, Result

from relay.cli import relay
from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy, Tally
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.outbox import GivenUp, Later, NewReport, Sent
from relay.tlsrpt.report import Reporter, build_report, compress, encode
from relay.tlsrpt.store import FILE_NAME, ReportStore
from relay.tlsrpt_page import _RESULTS, _TYPES

pytestmark = pytest.mark.asyncio

DAY = date(2026, 1, 1)
NOW = datetime(2026, 1, 2, 1, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
US = Reporter("Example Inc.", "tls@r.example", "r.example")
STS = ReportedPolicy(PolicyType.STS, "a.example", ("version: STSv1", "mode: enforce"), ("*.a.example",))
EXPIRED = Fault(
    ReportResult.CERTIFICATE_EXPIRED, "code 10", "mx.a.example", "evil\x1b[2J", address="192.0.2.1", source="192.0.2.2"
)
COUNTS = {(DAY, Tally("a.example", STS)): 7, (DAY, Tally("a.example", STS, EXPIRED)): 1}
SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "tlsrpt-schema.json").read_text())
PAGE = """\
a.example, 2026-01-01 (UTC)

it would be told:
  from Example Inc., questions to tls@r.example
  MTA-STS, a.example
    | version: STSv1
    | mode: enforce
    7 sessions succeeded, 1 failed
    1 x certificate-expired: the certificate has expired
        host mx.a.example [192.0.2.1], it calls itself evil?[2J, from our 192.0.2.2, because code 10
"""
ON = '[tlsrpt]\norganization = "Example Inc."\ncontact = "tls@r.example"\n'


def show(folder: Path, *arguments: str, settings: str = ON) -> Result:
    file = folder / "relay.toml"
    file.write_text(f'hostname = "relay.test"\n{settings}[queue]\npath = "{folder}"\n')
    return CliRunner().invoke(relay, ["tlsrpt", "show", "--config", str(file), *arguments])


def make(counts: tuple[Counted, ...]) -> NewReport:
    octets = compress(encode(build_report("1@r.example", DAY, counts, US)))
    return NewReport("1@r.example", octets, ("mailto:a@a.example", "https://a.example/"), NOW)


async def test_what_a_domain_would_be_told(tmp_path: Path) -> None:
    store = ReportStore(tmp_path, print)
    await store.add(COUNTS)
    page = show(tmp_path, "A.example.", "--day", "2026-01-01")
    assert (page.exit_code, page.stdout) == (0, PAGE)
    await store.close()
    assert show(tmp_path, "a.example", "--day", "2026-01-01").stdout == PAGE  # no service
    as_json = json.loads(show(tmp_path, "a.example", "--day", "2026-01-01", "--json").stdout)
    assert list(json_schema.problems(as_json, SCHEMA, SCHEMA)) == []
    assert as_json["report-id"] == "2026-01-01.preview@r.example"
    assert as_json["policies"][0]["failure-details"][0]["receiving-mx-helo"] == "evil\x1b[2J"


async def test_what_a_domain_was_told_and_how_it_went(tmp_path: Path) -> None:
    store = ReportStore(tmp_path, print)
    await store.add(COUNTS)
    await store.issue(DAY, "a.example", make, NOW)
    first, second = await store.claim(NOW, MINUTE, 2)
    await store.settle(first, Sent("200 thanks"), NOW)
    await store.settle(second, Later(NOW + MINUTE, "busy"), NOW)
    report = PAGE.partition("it would be told:\n")[2]
    page = show(tmp_path, "a.example", "--day", "2026-01-01")
    assert page.stdout == (
        "a.example, 2026-01-01 (UTC)\n\n"
        "2026-01-02 01:00:00 UTC: report 1@r.example\n"
        "  https://a.example/: sent 2026-01-02 01:00:00 UTC (200 thanks)\n"
        "  mailto:a@a.example: waits, 1 attempt, next 2026-01-02 01:01:00 UTC (busy)\n"
        f"{report}"
    )
    as_json = json.loads(show(tmp_path, "a.example", "--day", "2026-01-01", "--json").stdout)
    assert as_json["report-id"] == "1@r.example"
    (third,) = await store.claim(NOW + MINUTE, MINUTE, 2)
    await store.settle(third, GivenUp("no such mailbox"), NOW + MINUTE)
    page = show(tmp_path, "a.example", "--day", "2026-01-01")
    assert "mailto:a@a.example: given up 2026-01-02 01:01:00 UTC (no such mailbox)\n" in page.stdout
    await store.close()


async def test_all_domains_of_a_day(tmp_path: Path) -> None:
    store = ReportStore(tmp_path, print)
    none = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "b.example")
    await store.add(COUNTS | {(DAY, Tally(f"{name}.example", none)): 2 for name in "bcd"})
    await store.issue(DAY, "a.example", make, NOW)
    await store.drop(DAY, "c.example", "it has no record", NOW)
    assert show(tmp_path, "--day", "2026-01-01").stdout == (
        "DOMAIN     SUCCEEDED  FAILED  REPORT\n"
        "a.example  7          1       https://a.example/ waits; mailto:a@a.example waits\n"
        "b.example  2          0       not made yet\n"
        "c.example  -          -       none: it has no record\n"
        "d.example  2          0       not made yet\n"
        "\n4 domains on 2026-01-01 (UTC)\n"
    )
    found = json.loads(show(tmp_path, "--day", "2026-01-01", "--json").stdout)
    assert found["day"] == "2026-01-01"
    by_name = {one["domain"]: one for one in found["domains"]}
    assert by_name["b.example"] | {"domain": ""} == {
        "domain": "", "successful": 2, "failed": 0, "report": None, "why": None, "deliveries": []
    }  # fmt: skip
    assert (by_name["c.example"]["successful"], by_name["c.example"]["why"]) == (None, "it has no record")
    assert (by_name["a.example"]["successful"], by_name["a.example"]["report"]) == (7, "1@r.example")
    assert by_name["a.example"]["deliveries"][0] == {
        "uri": "https://a.example/",
        "state": "waits",
        "attempts": 0,
        "next": "2026-01-02T01:00:00Z",
        "words": None,
        "at": "2026-01-02T01:00:00Z",
    }
    await store.close()


async def test_today_is_not_over(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    days = (today, today + timedelta(days=1))  # midnight may come now
    store = ReportStore(tmp_path, print)
    await store.add({(day, Tally("a.example", STS)): 1 for day in days})
    await store.close()
    assert "it would be told (so far: the day is not over):\n" in show(tmp_path, "a.example").stdout
    assert "a.example  1          0       not before the day is over\n" in show(tmp_path).stdout
    assert show(tmp_path, "--day", "yesterday").stdout.startswith("Nothing is counted on ")


async def test_what_there_is_not(tmp_path: Path) -> None:
    nothing = show(tmp_path, "a.example", "--day", "2026-01-01")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert nothing.stderr == "relay: nothing is counted of a.example on 2026-01-01 (UTC)\n"
    assert show(tmp_path, "a.example", "--json").exit_code == 1
    assert not (tmp_path / FILE_NAME).exists()
    assert show(tmp_path, "--day", "2026-01-01").stdout == "Nothing is counted on 2026-01-01 (UTC).\n"
    assert json.loads(show(tmp_path, "--day", "2026-01-01", "--json").stdout)["domains"] == []


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ((), "", "relay: TLS reports are off: tlsrpt.organization is not set\n"),
        (("--day", "monday"), ON, "relay: monday is no day: give one as 2030-01-31, today or yesterday\n"),
        (("--day", "9999-12-31"), ON, "relay: 9999-12-31 has not begun: in UTC it is "),
        (("not a domain",), ON, "relay: "),
    ],
)
async def test_mistakes(tmp_path: Path, arguments: tuple[str, ...], settings: str, said: str) -> None:
    found = show(tmp_path, *arguments, settings=settings)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(said)
    assert found.stderr.count("\n") == 1


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    found = show(tmp_path)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(f"relay: {tmp_path / FILE_NAME} cannot be read (")
    assert (tmp_path / FILE_NAME).read_bytes() == b"no database" * 100  # looking changes nothing


async def test_there_are_words_for_everything() -> None:
    assert {one.value for one in PolicyType} == set(_TYPES)
    assert {one.value for one in ReportResult} <= set(_RESULTS)
