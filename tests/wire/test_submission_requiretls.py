"""What the sender asks of TLS for its message: REQUIRETLS and TLS-Required. RFC 8689."""

from __future__ import annotations

from pathlib import Path

import pytest
from submission_peer import Wanted, client_tls, lab_tls, running

from relay.mail.message import TlsDemand

pytestmark = pytest.mark.asyncio

MAIL = "MAIL FROM:<a@example.test> REQUIRETLS"


async def test_requiretls_is_offered_and_taken_under_tls_only(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(tls=lab_tls())) as server, await server.connect() as client:
        assert "REQUIRETLS" not in await client.hello()
        assert (await client.ask(MAIL)).startswith("530 5.7.10 ")
        await client.start_tls(client_tls())
        assert "\n250 REQUIRETLS" in await client.hello()
        assert (await client.ask(f"{MAIL}=1")).startswith("501 5.5.4 ")
        assert (await client.ask(MAIL)).startswith("250 2.1.0 ")


@pytest.mark.parametrize(
    ("options", "header", "demand"),
    [
        ("", b"", TlsDemand.DEFAULT),
        (" REQUIRETLS", b"", TlsDemand.REQUIRED),
        (" REQUIRETLS", b"TLS-Required: No\r\n", TlsDemand.REQUIRED),  # RFC 8689 section 4.1: the parameter wins
        ("", b"TLS-Required: No\r\n", TlsDemand.WAIVED),
        ("", b"Subject: x\r\ntls-required:\r\n\tnO \r\n", TlsDemand.WAIVED),
        ("", b"TLS-Required: Yes\r\n", TlsDemand.DEFAULT),
        ("", b"TLS-Required: No, really\r\n", TlsDemand.DEFAULT),
        ("", b"TLS-Required: No\r\nTLS-Required: No\r\n", TlsDemand.DEFAULT),  # section 3: at most once
        ("", b"X-TLS-Required: No\r\n", TlsDemand.DEFAULT),
        ("", b"Subject: x\r\n\r\nTLS-Required: No\r\n", TlsDemand.DEFAULT),  # not in the header
    ],
)
async def test_the_demand_is_kept(options: str, header: bytes, demand: TlsDemand, tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(tls=lab_tls())) as server, await server.connect() as client:
        await client.hello()
        await client.start_tls(client_tls())
        answer = await client.deliver(header + b"\r\nx\r\n.\r\n", options=options)
        assert answer.startswith("250 2.0.0 ")
        (stored,) = await server.stored()
        assert stored.claims[0].demand is demand
