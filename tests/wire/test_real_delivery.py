"""The whole decision with real DNSSEC: a whole Relay, a real Unbound, zones that a real Knot signs, the lab's hosts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

import pytest
from real_delivery import OWN, Host, Lab, Row, held_port, play
from real_dns import Ds, Signing, Zone, needed, serve

from relay.lab.certs import Leaf
from relay.policy.sts import StsMode

pytestmark = [*needed, pytest.mark.timeout(120)]

NOBODY = "3 1 1 " + "ab" * 32
UNUSABLE = "3 1 9 abcd"

HOSTS = {
    "good.hosts": Host(tlsa=OWN),
    "ta.hosts": Host(tlsa=(2, 0, 2)),
    "expired.hosts": Host(Leaf.EXPIRED, OWN),
    "self.hosts": Host(Leaf.SELF_SIGNED, OWN),
    "other.hosts": Host(tlsa=NOBODY),
    "clear.hosts": Host(None, NOBODY),
    "odd.hosts": Host(Leaf.SELF_SIGNED, UNUSABLE),
    "oddclear.hosts": Host(None, UNUSABLE),
    "none.hosts": Host(),
    "noneclear.hosts": Host(None),
    "norequire.hosts": Host(tlsa=OWN, requiretls=False),
    "none.optout": Host(),
    "cut.altered": Host(tlsa=OWN),
    "plain.altered": Host(),
    "mx.open": Host(tlsa=NOBODY),
    "mx.island": Host(tlsa=NOBODY),
    "mx.algorithm": Host(tlsa=NOBODY),
    "mx.badhosts": Host(tlsa=OWN),
}


def altered(lines: Sequence[str]) -> list[str]:
    """Without the signatures of one host's TLSA record and of some domains' records for MTA-STS."""
    cut = re.compile(r"(_\d+\._tcp\.cut|_mta-sts\.txt|mta-sts\.address)\.altered\.test\.\s+\d+\s+RRSIG")
    kept = [line for line in lines if not cut.match(line)]
    assert len(kept) <= len(lines) - 3
    return kept


ALIASES = """
alias CNAME good
badalias CNAME other
out CNAME mx.open.test.
*.wild MX 10 good
domain CNAME dane-good.names.test.
"""


def zones(port: int) -> dict[str, Zone]:
    """Without the records of hosts and domains."""
    return {
        "hosts.test": Zone(f"{ALIASES}_{port}._tcp.out TLSA {NOBODY}\n"),
        "names.test": Zone(""),
        "nsec.test": Zone("", Signing.NSEC),
        "optout.test": Zone("", Signing.OPT_OUT),
        "open.test": Zone("in CNAME other.hosts.test.\nalias CNAME dane-other.names.test.\n", Signing.NO, Ds.NONE),
        "altered.test": Zone("", alter=altered),
        "island.test": Zone("", ds=Ds.NONE),
        "algorithm.test": Zone("", ds=Ds.UNKNOWN_ALGORITHM),
        "bad.test": Zone("", ds=Ds.WRONG),
        "badhosts.test": Zone("", ds=Ds.WRONG),
        "stripped.test": Zone("", Signing.NO),
    }


VERIFIED, ENCRYPTED, CLEAR = "delivered 2.0.0 verified", "delivered 2.0.0 encrypted", "delivered 2.0.0 none"
MISMATCH, UNDECIDED, NO_TLS = "deferred 4.7.5 none", "deferred 4.7.5 none", "deferred 4.7.4 none"
REQUIRETLS = ("REQUIRETLS",)
ENFORCE = StsMode.ENFORCE

ROWS = [
    # DANE
    Row("dane-good.names", "10 good.hosts.test.", VERIFIED),
    Row("dane-good.nsec", "10 good.hosts.test.", VERIFIED),
    Row("dane-ta.names", "10 ta.hosts.test.", VERIFIED),
    Row("dane-expired.names", "10 expired.hosts.test.", VERIFIED),  # RFC 7672 §3.1.1: dates do not matter with usage 3
    Row("dane-other.names", "10 other.hosts.test.", MISMATCH),
    Row("dane-clear.names", "10 clear.hosts.test.", NO_TLS),
    Row("dane-second.names", "10 other.hosts.test., 20 good.hosts.test.", VERIFIED),
    Row("dane-unusable.names", "10 odd.hosts.test.", ENCRYPTED),
    Row("dane-unusable-clear.names", "10 oddclear.hosts.test.", NO_TLS),
    # No TLSA record, as it is proved, or as nobody can say
    Row("denied.names", "10 none.hosts.test.", ENCRYPTED),
    Row("denied.nsec", "10 none.hosts.test.", ENCRYPTED),
    Row("denied-clear.names", "10 noneclear.hosts.test.", CLEAR),
    Row("denied.optout", "10 none.optout.test.", ENCRYPTED),
    Row("unsigned-host.names", "10 mx.open.test.", ENCRYPTED),  # its record is not signed and does not count
    Row("island.names", "10 mx.island.test.", ENCRYPTED),
    Row("algorithm.names", "10 mx.algorithm.test.", ENCRYPTED),
    # Bogus
    Row("bad", "10 good.hosts.test.", UNDECIDED),
    Row("stripped", "10 good.hosts.test.", UNDECIDED),
    Row("bad-host.names", "10 mx.badhosts.test.", UNDECIDED),
    Row("bad-tlsa.names", "10 cut.altered.test.", UNDECIDED),
    Row("bad-host-first.names", "10 mx.badhosts.test., 20 good.hosts.test.", VERIFIED),
    Row("bad-tlsa-first.names", "10 cut.altered.test., 20 good.hosts.test.", VERIFIED),
    # A signed host that an unsigned domain names
    Row("half-good.open", "10 good.hosts.test.", VERIFIED, without=ENCRYPTED),
    Row("half-other.open", "10 other.hosts.test.", MISMATCH, without=ENCRYPTED),
    Row("half-clear.open", "10 clear.hosts.test.", NO_TLS, without=CLEAR),
    Row("half-unusable.open", "10 oddclear.hosts.test.", NO_TLS, without=CLEAR),
    Row("half-bad.open", "10 cut.altered.test.", UNDECIDED, without=ENCRYPTED),
    Row("half-island.island", "10 other.hosts.test.", MISMATCH, without=ENCRYPTED),
    # Aliases
    Row("alias.names", "10 alias.hosts.test.", VERIFIED),
    Row("alias-other.names", "10 badalias.hosts.test.", MISMATCH),
    Row("alias-out.names", "10 out.hosts.test.", MISMATCH),  # to an unsigned zone, with a signed record of its own
    Row("alias-in.names", "10 in.open.test.", ENCRYPTED),  # by an unsigned alias to a signed host
    Row("domain.hosts", "", VERIFIED),
    Row("alias.open", "", MISMATCH, without=ENCRYPTED),  # an unsigned alias of a signed domain
    Row("x.wild.hosts", "", VERIFIED),
    Row("good.hosts", "", VERIFIED),  # without MX: its own host
    # MTA-STS
    Row("sts-good.names", "10 none.hosts.test.", VERIFIED, sts=ENFORCE, sts_mx="none.hosts.test"),
    Row("sts-clear.names", "10 noneclear.hosts.test.", NO_TLS, sts=ENFORCE, sts_mx="*.hosts.test"),
    Row("sts-unlisted.names", "10 none.hosts.test.", "deferred 4.4.8 none", sts=ENFORCE, sts_mx="mx.else.test"),
    Row("sts-and-dane.names", "10 good.hosts.test.", VERIFIED, sts=ENFORCE, sts_mx="*.hosts.test"),
    Row("sts-not-dane.names", "10 other.hosts.test.", MISMATCH, sts=ENFORCE, sts_mx="*.hosts.test"),
    Row("dane-not-sts.names", "10 self.hosts.test.", MISMATCH, sts=ENFORCE, sts_mx="*.hosts.test"),
    Row("sts-half.open", "10 other.hosts.test.", MISMATCH, VERIFIED, sts=ENFORCE, sts_mx="*.hosts.test"),
    Row("txt.altered", "10 none.hosts.test.", UNDECIDED, sts=ENFORCE, sts_mx="*.hosts.test"),  # its TXT is bogus
    Row("address.altered", "10 none.hosts.test.", ENCRYPTED, sts=ENFORCE, sts_mx="*.hosts.test"),  # no policy to be had
    # What the sender asks for
    Row("require-dane.names", "10 good.hosts.test.", VERIFIED, options=REQUIRETLS),
    Row("require-web.names", "10 none.hosts.test.", VERIFIED, options=REQUIRETLS),  # its name is certain by DNSSEC
    Row("require-other.names", "10 other.hosts.test.", "failed 5.7.10 none", options=REQUIRETLS),
    Row("require-half.open", "10 good.hosts.test.", "failed 5.7.10 none", options=REQUIRETLS),  # anybody's MX record
    Row("require-optout.optout", "10 none.optout.test.", VERIFIED, options=REQUIRETLS),
    Row("require-none.names", "10 norequire.hosts.test.", "failed 5.7.30 none", options=REQUIRETLS),
    Row("waived.names", "10 other.hosts.test.", ENCRYPTED, header="TLS-Required: No\r\n"),
    # Nowhere to go
    Row("null.names", "0 .", "failed 5.1.10 none"),
    Row("nothing.names", "", "failed 5.1.2 none"),
    Row("nothing.optout", "", "failed 5.1.2 none"),
]
LOST = [Row("lost.names", "10 good.hosts.test.", "deferred 4.4.3 none")]  # sent when Knot is gone


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> dict[bool, dict[str, str]]:
    """By `delivery.dane_insecure_mx` and domain."""
    folder = tmp_path_factory.mktemp("delivery")
    port, held = held_port()
    lab = Lab(port, HOSTS)
    published = lab.zones(zones(port), [*ROWS, *LOST])
    with (
        held,
        serve(tmp_path_factory.mktemp("dns"), published, ("ede",)) as servers,
        asyncio.Runner(loop_factory=loop_factory(pytestconfig)) as runner,
    ):
        without = runner.run(play(lab, servers, ROWS, (), folder / "without", dane_insecure_mx=False))
        return {
            False: without,
            True: runner.run(play(lab, servers, ROWS, LOST, folder / "with", dane_insecure_mx=True)),
        }


def loop_factory(config: pytest.Config) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if config.getoption("--loop") != "uvloop":
        return None
    import uvloop  # noqa: PLC0415  (only where it is asked for)

    return uvloop.new_event_loop


@pytest.mark.parametrize("dane_insecure_mx", [True, False])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.domain)
def test_what_becomes_of_mail(outcomes: dict[bool, dict[str, str]], row: Row, dane_insecure_mx: bool) -> None:
    assert outcomes[dane_insecure_mx][row.domain] == row.expects(dane_insecure_mx)


@pytest.mark.parametrize("row", LOST, ids=lambda row: row.domain)
def test_what_becomes_of_mail_when_nobody_serves_the_zones(outcomes: dict[bool, dict[str, str]], row: Row) -> None:
    assert outcomes[True][row.domain] == row.expected
