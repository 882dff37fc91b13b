"""A real validating Unbound in front of zones that a real Knot signs, both of Debian, for the tests marked `unbound`.

Zones lie below `test`, which is signed as well and is Unbound's trust anchor. Its caches can be emptied, so that a zone
may change while a test runs.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

import pytest

from relay.lookup.resolver import Resolver
from relay.settings import DnsSettings, HostPort

T = TypeVar("T")

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # servers are often not in a user's path
TOOLS = {
    name: shutil.which(name, path=PATH) or "" for name in ("knotd", "knotc", "keymgr", "unbound", "unbound-control")
}
missing = [name for name, path in TOOLS.items() if not path]
needed = [
    pytest.mark.unbound,
    pytest.mark.skipif(bool(missing), reason=f"needs Debian's unbound and knot ({', '.join(missing)} not found)"),
]

APEX = "@ SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n@ NS ns.test.\n"
EE = "3 1 1 " + "ab" * 32
SELF_TEST = DnsSettings(self_test_signed="signed.test", self_test_bogus="wrong.test")
PATIENCE_SECONDS = 20.0
_ATTEMPTS = 4
SHORT_DAYS = 3  # how long signatures of the policy SHORT are good
LATER = timedelta(days=SHORT_DAYS + 2)


class Signing(Enum):
    """How Knot signs a zone."""

    NO = ""
    NSEC = "nsec"
    NSEC3 = "nsec3"
    OPT_OUT = "opt-out"  # NSEC3 that says nothing of delegations without DS
    SHORT = "short"  # signatures that have expired for the Unbound called `late`


class Ds(Enum):
    """What the parent zone says of a zone's key."""

    RIGHT = "the DS of its key"
    NONE = "none"
    WRONG = "the DS of another key"
    UNKNOWN_ALGORITHM = "a DS with an algorithm that nobody knows"
    UNKNOWN_DIGEST = "a DS with a digest that nobody knows"


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone: its records without SOA and NS, how it is signed, what `test` says of it.

    `alter` changes the lines of the zone after Knot has signed it.
    """

    records: str
    signing: Signing = Signing.NSEC3
    ds: Ds = Ds.RIGHT
    alter: Callable[[Sequence[str]], Sequence[str]] | None = None


BASIC = {  # what Relay tests its resolver with
    "signed.test": Zone("@ A 192.0.2.1\n"),
    "wrong.test": Zone(f"@ A 192.0.2.10\n@ MX 10 mx\nmx A 192.0.2.10\n_25._tcp.mx TLSA {EE}\n", ds=Ds.WRONG),
}
_LATE = f"val-override-date: {datetime.now(UTC) + LATER:%Y%m%d%H%M%S}"
FLAVOURS = {
    "ede": "ede: yes",  # says why it fails, by extended errors
    "plain": "ede: no",
    "careless": 'module-config: "iterator"',  # does not validate
    "late": f"ede: yes\n    {_LATE}",
    "late-plain": f"ede: no\n    {_LATE}",
}
validating = pytest.mark.parametrize("flavour", ["ede", "plain"])


class Knot:
    """The server for all zones. `folder` holds them, and the keys."""

    def __init__(self, folder: Path, zones: Mapping[str, Zone]) -> None:
        self.address = HostPort(host="127.0.0.1", port=free_port())
        self._folder = folder
        self._zones = dict(zones)
        self._config = folder / "knot.conf"
        self._process: subprocess.Popen[str] | None = None
        (folder / "db").mkdir()
        self._configure({name: zone.signing for name, zone in self._all().items()}, "-1")
        with_key = [
            name for name, zone in self._all().items() if zone.signing is not Signing.NO or zone.ds is not Ds.NONE
        ]
        self._keys = {name: self._make_key(name) for name in with_key}
        self.anchor = self._keys["test"]
        for name in self._all():
            self._write(name)
        self._sign_those_that_are_altered()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all zones."""
        return tuple(self._all())

    def start(self) -> None:
        signings = {name: zone.signing for name, zone in self._all().items() if zone.alter is None}
        self._run(signings, [name for name, zone in self._zones.items() if zone.alter is not None])

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def set_ds(self, name: str, ds: Ds) -> None:
        """Let `test` say another thing of the zone `name`."""
        zone = self._zones[name]
        self._zones[name] = Zone(zone.records, zone.signing, ds, zone.alter)
        self._write("test")
        control = [TOOLS["knotc"], "-c", str(self._config), "-b", "zone-reload", "test"]
        subprocess.run(control, check=True, capture_output=True)

    def _all(self) -> dict[str, Zone]:
        return {"test": Zone(""), **self._zones}

    def _run(self, signings: Mapping[str, Signing], others: Sequence[str]) -> None:
        signed = [f"[{name}.] DNSSEC, successfully signed" for name, how in signings.items() if how is not Signing.NO]
        loaded = [f"[{name}.] loaded" for name, how in signings.items() if how is Signing.NO]
        loaded += [f"[{name}.] loaded" for name in others]
        self._process = start([TOOLS["knotd"], "-c", str(self._config)], [*signed, *loaded, "server started"])

    def _sign_those_that_are_altered(self) -> None:
        """Let Knot sign them into their files, which it then serves as they are."""
        altered = {name: zone for name, zone in self._zones.items() if zone.alter is not None}
        signings = {name: zone.signing for name, zone in altered.items()}
        if altered:
            self._configure(signings, "0")
            self._run(signings, [])
            control = [TOOLS["knotc"], "-c", str(self._config), "-b", "-f", "zone-flush", *altered]
            subprocess.run(control, check=True, capture_output=True)
            self.stop()
        for name, zone in altered.items():
            path = self._folder / f"{name}.zone"
            assert zone.alter is not None
            path.write_text("".join(f"{line}\n" for line in zone.alter(path.read_text().splitlines())))
        self._configure(
            {name: zone.signing if zone.alter is None else Signing.NO for name, zone in self._all().items()}, "-1"
        )

    def _configure(self, signings: Mapping[str, Signing], sync: str) -> None:
        zones = "".join(
            f"  - domain: {name}.\n"
            + (f"    dnssec-signing: on\n    dnssec-policy: {how.value}\n" if how is not Signing.NO else "")
            for name, how in signings.items()
        )
        policies = "".join(
            f"  - id: {how.value}\n    manual: on\n    single-type-signing: on\n    algorithm: ecdsap256sha256\n"
            f"    nsec3: {'off' if how is Signing.NSEC else 'on'}\n    nsec3-iterations: 0\n"
            f"    nsec3-opt-out: {'on' if how is Signing.OPT_OUT else 'off'}\n"
            + (f"    rrsig-lifetime: {SHORT_DAYS}d\n    rrsig-refresh: 1d\n" if how is Signing.SHORT else "")
            for how in Signing
            if how is not Signing.NO
        )
        self._config.write_text(f"""
server:
    rundir: "{self._folder}"
    listen: 127.0.0.1@{self.address.port}
log:
  - target: stderr
    any: info
database:
    storage: "{self._folder}/db"
    journal-db-max-size: 16M
policy:
{policies}
template:
  - id: default
    storage: "{self._folder}"
    file: "%s.zone"
    zonefile-sync: {sync}
    journal-content: none
    semantic-checks: off
zone:
{zones}""")

    def _make_key(self, zone: str) -> str:
        """Make a key for the zone; its DS record comes back, as one line of the parent zone."""
        keymgr = [TOOLS["keymgr"], "-c", str(self._config), zone]
        subprocess.run(
            [*keymgr, "generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes"], check=True, capture_output=True
        )
        shown = subprocess.run([*keymgr, "ds"], check=True, capture_output=True, text=True).stdout
        return next(line for line in shown.splitlines() if " 13 2 " in line)

    def _write(self, name: str) -> None:
        records = self._zones[name].records if name != "test" else self._delegations()
        (self._folder / f"{name}.zone").write_text("$TTL 60\n" + APEX + records)

    def _delegations(self) -> str:
        children = [name for name in self._zones if name.count(".") == 1]
        return "ns A 127.0.0.1\n" + "".join(f"{name}. NS ns\n{self._ds(name)}\n" for name in children)

    def _ds(self, name: str) -> str:
        right = self._keys.get(name, "")
        match self._zones[name].ds:
            case Ds.WRONG:
                return right.replace(right.split()[-1], "00" * 32)
            case Ds.UNKNOWN_ALGORITHM:
                return right.replace(" 13 2 ", " 200 2 ")
            case Ds.UNKNOWN_DIGEST:
                return right.replace(" 13 2 ", " 13 200 ")
            case Ds.NONE:
                return ""
        return right


class Unbound:
    """A resolver in front of Knot, of one of the FLAVOURS."""

    def __init__(self, folder: Path, flavour: str, knot: Knot) -> None:
        self.address = HostPort(host="127.0.0.1", port=free_port())
        self._config = folder / f"unbound-{flavour}.conf"
        # Each zone by itself: a delegation names no port, and would be followed to port 53.
        stubs = "\n".join(
            f'stub-zone:\n    name: "{name}."\n    stub-addr: 127.0.0.1@{knot.address.port}' for name in knot.names
        )
        self._config.write_text(f"""
server:
    interface: 127.0.0.1@{self.address.port}
    port: {self.address.port}
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
    trust-anchor: "{knot.anchor}"
    {FLAVOURS[flavour]}
{stubs}
remote-control:
    control-enable: yes
    control-use-cert: no
    control-interface: "{folder}/{flavour}.control"
""")
        self.process = start([TOOLS["unbound"], "-d", "-c", str(self._config)], ["start of service"])

    def forget(self) -> None:
        """Empty its caches."""
        for command in (["flush_zone", "test."], ["flush_infra", "all"]):
            control = [TOOLS["unbound-control"], "-c", str(self._config), *command]
            subprocess.run(control, check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Servers:
    """An Unbound of each flavour, and the Knot behind them."""

    unbound: Mapping[str, Unbound]
    knot: Knot

    def resolver(self, flavour: str = "ede") -> Resolver:
        """A new one, with nothing in its cache, that has not been tested yet."""
        return Resolver([self.unbound[flavour].address], timedelta(seconds=10))

    async def trusting(self, flavour: str = "ede") -> Resolver:
        """A new one that has found its Unbound to validate."""
        resolver = self.resolver(flavour)
        trusted, why = await resolver.assess(SELF_TEST)
        assert trusted, why
        return resolver


class ServerEndedError(Exception):
    """A server did not come up; the text is its log."""


def insist(build: Callable[[], T]) -> T:
    """What `build` starts. A port that was free may be somebody else's a moment later: then again, with another."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return build()
        except ServerEndedError:
            continue
    return build()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(command: list[str], ready: Sequence[str]) -> subprocess.Popen[str]:
    """Start a server that logs to standard error, and return when it has logged all of `ready`.

    Raises ServerEndedError when it ends before that, or takes too long and is ended.
    """
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    waiting = list(ready)
    assert process.stderr is not None
    patience = threading.Timer(PATIENCE_SECONDS, process.kill)
    patience.start()
    try:
        while waiting:
            line = process.stderr.readline()
            if not line:
                process.wait()
                raise ServerEndedError(f"{command[0]} ended before {waiting}: {''.join(log)}")
            log.append(line)
            waiting = [text for text in waiting if text not in line]
    finally:
        patience.cancel()
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=30)


@contextmanager
def serve(folder: Path, zones: Mapping[str, Zone], flavours: Sequence[str] = ("ede", "plain")) -> Iterator[Servers]:
    """Knot with `zones` and those that the self-test needs, and an Unbound of each flavour; stopped at the end."""

    def started_knot() -> Knot:
        knot = Knot(Path(mkdtemp(dir=folder)), {**BASIC, **zones})
        knot.start()
        return knot

    with ExitStack() as stack:
        knot = insist(started_knot)
        stack.callback(knot.stop)
        unbound = {}
        for flavour in flavours:
            unbound[flavour] = insist(partial(Unbound, folder, flavour, knot))
            stack.callback(stop, unbound[flavour].process)
        yield Servers(unbound, knot)
