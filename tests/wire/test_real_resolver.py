"""Our resolver against a real validating Unbound in front of zones that a real Knot signs.

The lab's DNS server only plays a validator; here AD, bogus answers and proofs of absence are the real thing, with
extended errors and without.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import Answer, LookupFailed, Missing, NotFound, Resolver
from relay.lookup.tlsa import find_tlsa
from relay.policy.mx import DestinationLookupFailed, MailHosts, MxHost
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaRecord, TlsaResult, UsableTlsa
from relay.settings import DnsSettings, HostPort

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # servers are often not in a user's path
TOOLS = {name: shutil.which(name, path=PATH) or "" for name in ("knotd", "keymgr", "unbound")}
missing = [name for name, path in TOOLS.items() if not path]
pytestmark = [
    pytest.mark.unbound,
    pytest.mark.skipif(bool(missing), reason=f"needs Debian's unbound and knot ({', '.join(missing)} not found)"),
]

APEX = "@ SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n@ NS ns.test.\n"
EE = "3 1 1 " + "ab" * 32
TLSA = TlsaRecord(3, 1, 1, b"\xab" * 32)
ZONES = {
    "signed.test": f"""
@ A 192.0.2.1
@ MX 10 mx
mx A 192.0.2.1
mx AAAA 2001:db8::1
_25._tcp.mx TLSA {EE}
_25._tcp.mx TYPE52 \\# 5 0301010203
inside CNAME mx
out CNAME mx.unsigned.test.
_25._tcp.out TLSA {EE}
gone CNAME nothing.signed.test.
empty CNAME text
bad CNAME mx.wrong.test.
text TXT "one" "two"
big TXT {" ".join(f'"{number:0200d}"' for number in range(30))}
*.wild A 192.0.2.3
_25._tcp.badtlsa CNAME _25._tcp.mx.wrong.test.
badtlsa A 192.0.2.4
null MX 0 .
""",
    "unsigned.test": f"@ MX 10 mx.signed.test.\nmx A 192.0.2.9\n_25._tcp.mx TLSA {EE}\nback CNAME mx.signed.test.\n",
    "wrong.test": f"@ A 192.0.2.10\n@ MX 10 mx\nmx A 192.0.2.10\n_25._tcp.mx TLSA {EE}\n",
    "stripped.test": "@ A 192.0.2.11\n@ MX 10 mx\nmx A 192.0.2.11\n",
}
SIGNED = ("test", "signed.test", "wrong.test")  # by Knot; the parent has a DS for stripped.test as well
FLAVOURS = {"ede": "ede: yes\n", "plain": "ede: no\n", "careless": 'module-config: "iterator"\n'}


@dataclass(frozen=True, slots=True)
class Servers:
    """An Unbound of each flavour, and the Knot behind them."""

    unbound: dict[str, HostPort]
    knot: HostPort

    def resolver(self, flavour: str) -> Resolver:
        return Resolver([self.unbound[flavour]], timedelta(seconds=10))


SELF_TEST = DnsSettings(self_test_signed="signed.test", self_test_bogus="wrong.test")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(command: list[str], ready: list[str]) -> subprocess.Popen[str]:
    """Start a server that logs to standard error, and return when it has logged all of `ready`."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    waiting = list(ready)
    assert process.stderr is not None
    while waiting:
        line = process.stderr.readline()
        assert line, f"{command[0]} ended: {''.join(log)}"
        log.append(line)
        waiting = [text for text in waiting if text not in line]
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=30)


def write_knot(folder: Path, port: int) -> Path:
    (folder / "db").mkdir()
    zones = "".join(
        f"  - domain: {name}.\n" + ("    dnssec-signing: on\n    dnssec-policy: lab\n" if name in SIGNED else "")
        for name in ("test", *ZONES)
    )
    config = folder / "knot.conf"
    config.write_text(f"""
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
log:
  - target: stderr
    any: info
database:
    storage: "{folder}/db"
    journal-db-max-size: 16M
policy:
  - id: lab
    manual: on
    single-type-signing: on
    algorithm: ecdsap256sha256
    nsec3: on
    nsec3-iterations: 0
template:
  - id: default
    storage: "{folder}"
    file: "%s.zone"
    zonefile-sync: -1
zone:
{zones}""")
    return config


def make_key(config: Path, zone: str) -> str:
    """Make a key for the zone; its DS record comes back, as one line of the parent zone."""
    keymgr = [TOOLS["keymgr"], "-c", str(config), zone]
    subprocess.run(
        [*keymgr, "generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes"], check=True, capture_output=True
    )
    shown = subprocess.run([*keymgr, "ds"], check=True, capture_output=True, text=True).stdout
    return next(line for line in shown.splitlines() if " 13 2 " in line)


def write_zones(folder: Path, config: Path) -> str:
    """Write the zone files with their delegations; the DS of `test` comes back."""
    ds = {name: make_key(config, name) for name in (*SIGNED, "stripped.test")}
    ds["wrong.test"] = ds["wrong.test"].replace(ds["wrong.test"].split()[-1], "00" * 32)
    parent = "$TTL 60\n" + APEX + "ns A 127.0.0.1\n"
    for name, records in ZONES.items():
        parent += f"{name}. NS ns\n" + ds.get(name, "") + "\n"
        (folder / f"{name}.zone").write_text("$TTL 60\n" + APEX + records)
    (folder / "test.zone").write_text(parent)
    return ds["test"]


def write_unbound(folder: Path, flavour: str, port: int, knot_port: int, anchor: str) -> Path:
    config = folder / f"unbound-{flavour}.conf"
    config.write_text(f"""
server:
    interface: 127.0.0.1@{port}
    port: {port}
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    verbosity: 1
    do-ip6: no
    do-daemonize: no
    do-not-query-localhost: no
    local-zone: "test." nodefault
    trust-anchor: "{anchor}"
    {FLAVOURS[flavour]}
stub-zone:
    name: "test."
    stub-addr: 127.0.0.1@{knot_port}
remote-control:
    control-enable: no
""")
    return config


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("dns")
    knot_port = free_port()
    knot = write_knot(folder, knot_port)
    anchor = write_zones(folder, knot)
    signed = [f"[{name}.] DNSSEC, successfully signed" for name in SIGNED]
    loaded = [f"[{name}.] loaded" for name in ZONES if name not in SIGNED]
    with ExitStack() as stack:
        stack.callback(stop, start([TOOLS["knotd"], "-c", str(knot)], [*signed, *loaded, "server started"]))
        unbound = {}
        for flavour in FLAVOURS:
            port = free_port()
            config = write_unbound(folder, flavour, port, knot_port, anchor)
            stack.callback(stop, start([TOOLS["unbound"], "-d", "-c", str(config)], ["start of service"]))
            unbound[flavour] = HostPort(host="127.0.0.1", port=port)
        yield Servers(unbound, HostPort(host="127.0.0.1", port=knot_port))


validating = pytest.mark.parametrize("flavour", ["ede", "plain"])


@pytest.mark.asyncio
@validating
async def test_self_test_trusts_a_validating_resolver(servers: Servers, flavour: str) -> None:
    found, sentence = await servers.resolver(flavour).assess(SELF_TEST)
    assert found, sentence


@pytest.mark.asyncio
async def test_self_test_does_not_trust_others(servers: Servers) -> None:
    found, sentence = await servers.resolver("careless").assess(SELF_TEST)
    assert not found
    assert "does not vouch for the signed name signed.test" in sentence
    found, sentence = await Resolver([servers.knot], timedelta(seconds=5)).assess(SELF_TEST)
    assert not found


FOUND: list[tuple[str, str, bool, str]] = [
    ("a", "mx.signed.test", True, "mx.signed.test"),
    ("aaaa", "mx.signed.test", True, "mx.signed.test"),
    ("mx", "signed.test", True, "signed.test"),
    ("txt", "text.signed.test", True, "text.signed.test"),
    ("txt", "big.signed.test", True, "big.signed.test"),
    ("tlsa", "_25._tcp.mx.signed.test", True, "_25._tcp.mx.signed.test"),
    ("a", "inside.signed.test", True, "mx.signed.test"),
    ("a", "x.y.wild.signed.test", True, "x.y.wild.signed.test"),
    ("a", "mx.unsigned.test", False, "mx.unsigned.test"),
    ("mx", "unsigned.test", False, "unsigned.test"),
    ("a", "out.signed.test", False, "mx.unsigned.test"),
    ("cname", "out.signed.test", True, "out.signed.test"),
    ("a", "back.unsigned.test", False, "mx.signed.test"),
]


@pytest.mark.asyncio
@validating
async def test_answers(servers: Servers, flavour: str) -> None:
    resolver = servers.resolver(flavour)
    await resolver.assess(SELF_TEST)
    for rdtype, name, secure, canonical in FOUND:
        found = await getattr(resolver, rdtype)(name)
        assert isinstance(found, Answer), (rdtype, name, found)
        assert (found.secure, found.canonical) == (secure, canonical), (rdtype, name)


ABSENT = [
    ("a", "nothing.signed.test", Missing.NXDOMAIN, True, "nothing.signed.test"),
    ("a", "text.signed.test", Missing.NODATA, True, "text.signed.test"),
    ("a", "wild.signed.test", Missing.NODATA, True, "wild.signed.test"),  # an empty non-terminal
    ("mx", "x.wild.signed.test", Missing.NODATA, True, "x.wild.signed.test"),  # a wildcard without such records
    ("a", "gone.signed.test", Missing.NXDOMAIN, True, "nothing.signed.test"),
    ("a", "empty.signed.test", Missing.NODATA, True, "text.signed.test"),
    ("tlsa", "_25._tcp.text.signed.test", Missing.NXDOMAIN, True, "_25._tcp.text.signed.test"),
    ("a", "nothing.test", Missing.NXDOMAIN, True, "nothing.test"),
    ("a", "nothing.unsigned.test", Missing.NXDOMAIN, False, "nothing.unsigned.test"),
    ("aaaa", "mx.unsigned.test", Missing.NODATA, False, "mx.unsigned.test"),
]


@pytest.mark.asyncio
@validating
async def test_proofs_of_absence(servers: Servers, flavour: str) -> None:
    resolver = servers.resolver(flavour)
    await resolver.assess(SELF_TEST)
    for rdtype, name, kind, secure, canonical in ABSENT:
        found = await getattr(resolver, rdtype)(name)
        assert isinstance(found, NotFound), (rdtype, name, found)
        assert (found.kind, found.secure, found.canonical) == (kind, secure, canonical), (rdtype, name)


@pytest.mark.asyncio
@validating
@pytest.mark.parametrize("name", ["mx.wrong.test", "mx.stripped.test", "bad.signed.test", "nothing.wrong.test"])
async def test_bogus(servers: Servers, flavour: str, name: str) -> None:
    resolver = servers.resolver(flavour)
    for look in (resolver.a, resolver.txt):
        found = await look(name)
        assert isinstance(found, LookupFailed)
        assert found.bogus, found.reason


@pytest.mark.asyncio
@validating
async def test_a_zone_that_nobody_serves_is_a_failure_but_not_bogus(servers: Servers, flavour: str) -> None:
    found = await servers.resolver(flavour).a("example.invalid-zone")
    assert isinstance(found, LookupFailed)
    assert not found.bogus


@pytest.mark.asyncio
async def test_without_validation_nothing_is_secure_or_bogus(servers: Servers) -> None:
    resolver = servers.resolver("careless")
    for name in ("mx.signed.test", "mx.wrong.test", "mx.stripped.test"):
        found = await resolver.a(name)
        assert isinstance(found, Answer)
        assert not found.secure


@pytest.mark.asyncio
async def test_broken_tlsa_records_come_through(servers: Servers) -> None:
    found = await servers.resolver("ede").tlsa("_25._tcp.mx.signed.test")
    assert isinstance(found, Answer)
    assert set(found.records) == {TLSA, TlsaRecord(3, 1, 1, b"\x02\x03")}


HOSTS: list[tuple[str, TlsaResult]] = [
    ("mx.signed.test", UsableTlsa("mx.signed.test", ("mx.signed.test",), (TLSA,))),
    ("inside.signed.test", UsableTlsa("mx.signed.test", ("mx.signed.test", "inside.signed.test"), (TLSA,))),
    ("out.signed.test", UsableTlsa("out.signed.test", ("out.signed.test",), (TLSA,))),
    ("x.wild.signed.test", NoTlsa("there are no signed TLSA records at _25._tcp.x.wild.signed.test")),
    ("mx.unsigned.test", NoTlsa("the addresses of mx.unsigned.test are not signed (DNSSEC)")),
    ("back.unsigned.test", NoTlsa("the addresses of back.unsigned.test are not signed (DNSSEC)")),
    (
        "badtlsa.signed.test",
        TlsaLookupFailed("the DNS answer for _25._tcp.badtlsa.signed.test (TLSA) failed DNSSEC validation", bogus=True),
    ),
]


@pytest.mark.asyncio
@validating
async def test_dane(servers: Servers, flavour: str) -> None:
    resolver = servers.resolver(flavour)
    await resolver.assess(SELF_TEST)
    for name, expected in HOSTS:
        host = await find_addresses(resolver, MxHost(name))
        assert isinstance(host, MxHost), host
        assert await find_tlsa(resolver, host, 25) == expected


@pytest.mark.asyncio
@validating
async def test_destinations(servers: Servers, flavour: str) -> None:
    resolver = servers.resolver(flavour)
    await resolver.assess(SELF_TEST)
    domains = ("signed.test", "unsigned.test", "wrong.test", "stripped.test")
    signed, unsigned, wrong, stripped = await asyncio.gather(*(find_destination(resolver, name) for name in domains))
    assert signed == MailHosts("signed.test", (MxHost("mx.signed.test", 10, mx_secure=True),))
    assert unsigned == MailHosts("unsigned.test", (MxHost("mx.signed.test", 10, mx_secure=False),))
    for found in (wrong, stripped):
        assert isinstance(found, DestinationLookupFailed)
        assert found.bogus
