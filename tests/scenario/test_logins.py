"""Logins at the whole service: the settings reach what they are about, and a restart gives nobody away."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import argon2
import pytest
from submission_peer import Client, client_tls

from relay.app import App, utc_now
from relay.events import CertificateRenewed, Event
from relay.lab.certs import LabCa, Leaf
from relay.settings import Settings
from relay.submission.scram import make_verifier

pytestmark = pytest.mark.asyncio
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@asynccontextmanager
async def service(folder: Path, events: list[Event], login: dict[str, Any]) -> AsyncIterator[tuple[App, int]]:
    submission = {
        "listen": [],
        "listen_tls": ["127.0.0.1:0"],
        "trusted_networks": [],
        "tarpit": "",
        "tls_certificate": folder / "chain.pem",
        "tls_key": folder / "key.pem",
        "client_ca_file": folder / "ca.pem",
        "users_file": folder / "users",
    }
    client = {"name": "hosts", "certificates": ["host.test"]}
    given = {
        "hostname": "relay.test",
        "submission": submission,
        "login": login,
        "client": [client],
        "dns": {"trust_ad": "no"},
        "alignment": {"check": "off"},
    }
    app = App(Settings.model_validate(given), folder / "state", "relay.test", utc_now, events.append)
    (address,) = await app.start()
    try:
        yield app, address.port
    finally:
        await app.stop()


async def salt_of(client: Client, name: str) -> bytes:
    first = base64.b64encode(f"n,,n={name},r=x".encode()).decode()
    answer = base64.b64decode((await client.ask(f"AUTH SCRAM-SHA-256 {first}"))[4:])
    assert (await client.ask("*")).startswith("501 ")
    return answer.split(b",")[1]


def prepared(folder: Path) -> ssl.SSLContext:
    """The service's files, and the context of a client that has a certificate."""
    ca = LabCa.make(datetime.now(UTC))
    ca.issue(("relay.test",)).write(folder)
    (folder / "ca.pem").write_bytes(ca.pem)
    verifier = make_verifier("secret", b"0123456789abcdef", 4096)
    (folder / "users").write_text(f"alice:{CHEAP.hash('secret')}:{verifier}\n")
    tls = client_tls()
    tls.load_cert_chain(*ca.issue(("host.test",), Leaf.CLIENT_EKU).write(folder / "client"))
    return tls


async def test_logins_of_a_service_that_is_restarted(tmp_path: Path) -> None:
    events = list[Event]()
    tls = prepared(tmp_path)
    tokens = {"jwks": "https://127.0.0.1:9/keys", "issuer": "https://id.test/", "audience": "relay"}
    offers = {
        False: "AUTH SCRAM-SHA-256 PLAIN LOGIN EXTERNAL",
        True: "AUTH SCRAM-SHA-256 PLAIN LOGIN OAUTHBEARER XOAUTH2 EXTERNAL",
    }
    salts = []
    for with_tokens in (False, True):
        async with (
            service(tmp_path, events, tokens if with_tokens else {}) as (_, port),
            await Client.connect("127.0.0.1", port, tls=tls) as client,
        ):
            assert offers[with_tokens] in await client.hello()
            salts.append((await salt_of(client, "alice"), await salt_of(client, "mallory")))
            assert (await client.ask("AUTH EXTERNAL =")).startswith("235 ")
    assert salts[0] == salts[1]
    assert len(set(salts[0])) == 2


async def test_another_authority_for_the_certificates_of_clients(tmp_path: Path) -> None:
    events = list[Event]()
    tls = prepared(tmp_path)
    async with service(tmp_path, events, {}) as (app, port):
        async with await Client.connect("127.0.0.1", port, tls=tls) as client:
            assert "EXTERNAL" in await client.hello()
        (tmp_path / "ca.pem").write_bytes(LabCa.make(datetime.now(UTC)).pem)
        app.hang_up()  # SIGHUP: the files are read again
        async with asyncio.timeout(10):
            while not any(isinstance(event, CertificateRenewed) for event in events):
                await asyncio.sleep(0.01)
        async with await Client.connect("127.0.0.1", port, tls=tls, greeted=False) as client:
            assert await client.closed()
