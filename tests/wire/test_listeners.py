"""Listeners as the settings have them: when TLS comes, who may log in, several addresses, both families."""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_network
from pathlib import Path

import argon2
import pytest
from submission_peer import LOOPBACK, Wanted, client_tls, lab_tls, running

from relay.events import ListenerStarted, MessageAccepted
from relay.settings import ClientSettings, HostPort, ListenerSettings, ListenerTls
from relay.submission.users import Users

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

SERVER_TLS = lab_tls()
TLS = client_tls()
LOOPBACK6 = HostPort(host="::1", port=0)
TLS_FIRST = "530 5.7.0 Send STARTTLS first"


def only(*listeners: ListenerSettings, tls: ssl.SSLContext | None = SERVER_TLS, **more: object) -> Wanted:
    """A server with these listeners and no other."""
    return Wanted({"listen": ()}, {"listener": listeners, **more}, tls=tls)


def listener(name: str, tls: ListenerTls = ListenerTls.STARTTLS, **more: object) -> ListenerSettings:
    return ListenerSettings.model_validate({"name": name, "listen": (LOOPBACK,), "tls": tls, **more})


async def test_every_listener_is_as_its_table_says(tmp_path: Path) -> None:
    kinds = [listener(kind.value, kind) for kind in ListenerTls]
    users = tmp_path / "users"
    users.write_text(f"alice:{argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash('x')}\n")
    wanted = Wanted({}, {"listener": kinds}, tls=SERVER_TLS, users=Users.load(users))
    offers: dict[str, list[bool]] = {}
    async with running(tmp_path, wanted) as server:
        started = [event for event in server.events if isinstance(event, ListenerStarted)]
        assert [(one.listener, one.tls) for one in started] == [
            *(("submission", "starttls"),),
            *((kind.value, kind.value) for kind in ListenerTls),
        ]
        for number, one in enumerate(started):
            implicit = one.tls == "implicit"
            async with await server.connect(number, tls=TLS if implicit else None) as client:
                hello = await client.hello()
                offers[one.listener] = ["STARTTLS" in hello, "AUTH" in hello]
                if one.tls in ("starttls", "required"):
                    await client.start_tls(TLS)
                    assert "AUTH PLAIN" in await client.hello()
                elif one.tls == "none":
                    assert (await client.ask("STARTTLS")).startswith("502 ")
    assert offers == {
        "submission": [True, False],
        "starttls": [True, False],
        "required": [True, False],
        "implicit": [False, True],
        "none": [False, False],
    }


async def test_tls_that_is_required_comes_before_all_else(tmp_path: Path) -> None:
    """RFC 3207 section 4."""
    async with (
        running(tmp_path, only(listener("strict", ListenerTls.REQUIRED))) as server,
        await server.connect() as client,
    ):
        for command in (
            "MAIL FROM:<a@example.test>",
            "AUTH PLAIN AHgAeA==",
            "HELO x",
            "RSET",
            "VRFY a",
            "DATA",
            "FROB",
        ):
            assert await client.ask(command) == TLS_FIRST, command
        assert (await client.ask("NOOP")).startswith("250 ")
        assert (await client.hello()).splitlines()[-1] == "250 STARTTLS"
        assert await client.ask("MAIL FROM:<a@example.test>") == TLS_FIRST
        await client.start_tls(TLS)
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
        assert server.count(MessageAccepted) == 1


@pytest.mark.parametrize("kind", [ListenerTls.REQUIRED, ListenerTls.IMPLICIT])
async def test_tls_needs_a_certificate(kind: ListenerTls, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a certificate"):
        async with running(tmp_path, only(listener("x", kind), tls=None)):
            pass


async def test_a_listener_where_nobody_logs_in(tmp_path: Path) -> None:
    async with (
        running(tmp_path, only(listener("closed", ListenerTls.IMPLICIT, auth=False))) as server,
        await server.connect(tls=TLS) as client,
    ):
        assert "AUTH" not in await client.hello()
        assert (await client.ask("AUTH PLAIN AHgAeA==")).startswith("502 ")


async def test_several_addresses_of_both_families(tmp_path: Path) -> None:
    """An IPv6 socket is for IPv6 alone, so that one port can be had in both families."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    places = (HostPort(host="127.0.0.1", port=port), HostPort(host="::", port=port), LOOPBACK, LOOPBACK6)
    async with running(tmp_path, only(listener("both", listen=places))) as server:
        assert [address.host for address in server.addresses] == ["127.0.0.1", "::", "127.0.0.1", "::1"]
        for number, host in enumerate(("127.0.0.1", "::1", "127.0.0.1", "::1")):
            reader_socket = socket.create_connection((host, server.addresses[number].port))
            reader_socket.close()
            if number != 1:
                async with await server.connect(number) as client:
                    assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 ")
        accepted = [event.client for event in server.events if isinstance(event, MessageAccepted)]
        assert accepted == ["127.0.0.1", "127.0.0.1", "::1"]


async def test_a_client_table_for_one_listener(tmp_path: Path) -> None:
    client = ClientSettings(name="inside", networks=(ip_network("127.0.0.0/8"),), listeners=("inside",))
    wanted = Wanted(
        {"listen": (), "trusted_networks": ()},
        {"listener": (listener("inside"), listener("outside")), "client": (client,)},
        tls=SERVER_TLS,
    )
    async with (
        running(tmp_path, wanted) as server,
        await server.connect(0) as inside,
        await server.connect(1) as outside,
    ):
        for one, answer in ((inside, "250"), (outside, "550")):
            await one.hello()
            await one.ask("MAIL FROM:<a@example.test>")
            assert (await one.ask("RCPT TO:<b@example.test>"))[:3] == answer
