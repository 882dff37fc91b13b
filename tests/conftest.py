"""For every test: nothing leaves this machine, Hypothesis is quick, one authority of the web is trusted, and in CI a
missing Debian package is no excuse.

`pytest --loop uvloop` runs the asyncio tests on uvloop. `pytest --hypothesis-profile thorough` looks harder.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import certifi
import hypothesis
import pytest

from relay.lookup.own_addresses import FAR

hypothesis.settings.register_profile("quick", deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("quick")

_SENDING = ("socket.connect", "socket.sendto", "socket.sendmsg")
_left_the_machine: list[str] = []


def _is_loopback(host: str | bytes | None) -> bool:
    """Whether asking for this host, or connecting to it, stays on this machine."""
    text = host.decode(errors="replace") if isinstance(host, bytes) else host or ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text.lower() in ("", "localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback or address.is_unspecified)  # 0.0.0.0 is this machine too


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook of the interpreter: fails each connection and datagram that is not for loopback."""
    if event in _SENDING:
        address = arguments[1]
        outside = isinstance(address, tuple) and not _is_loopback(address[0])  # other addresses are paths, or none
        outside = outside and not _only_asks_the_kernel(event, arguments[0], arguments[1])
    elif event == "socket.getaddrinfo":
        address = arguments[0]
        outside = not _is_loopback(address) and not _is_address(address)  # a name: the question itself would leave
    else:
        return
    if outside:
        _left_the_machine.append(f"{event} {address!r}")
        raise AssertionError(f"a test may not leave this machine: {event} {address!r}")


def _only_asks_the_kernel(event: str, sender: socket.socket, address: tuple[str, int]) -> bool:
    """Whether it is how Relay finds its own address: a datagram socket is connected, and nothing is sent."""
    return event == "socket.connect" and sender.type == socket.SOCK_DGRAM and tuple(address[:2]) in FAR.values()


def _is_address(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return True


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def stays_on_this_machine() -> Iterator[None]:
    """Fail the test also when the code under test swallowed the guard's error."""
    _left_the_machine.clear()
    yield
    assert not _left_the_machine


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A start of Relay reads all authorities that the system trusts: hundreds of starts would take half a minute."""
    bundle = tmp_path_factory.mktemp("authorities") / "bundle.pem"
    end = "-----END CERTIFICATE-----\n"
    bundle.write_text("".join(certifi.contents().partition(end)[:2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(bundle))
        patch.setenv("SSL_CERT_DIR", str(bundle.parent / "none"))
        yield


class _OnUvloop:
    """Gives pytest-asyncio uvloop's event loop for every test."""

    def pytest_asyncio_loop_factories(self) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        import uvloop  # noqa: PLC0415  (only where it is asked for)

        return {"uvloop": uvloop.new_event_loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="the event loop of asyncio tests")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--loop") == "uvloop":
        config.pluginmanager.register(_OnUvloop())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=1, a test that is skipped for want of a Debian package has failed: .ci/run installs them all."""
    report = yield
    if os.environ.get("CI") and report.skipped and "needs Debian's" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {item.nodeid}: {report.longrepr}"
    return report
