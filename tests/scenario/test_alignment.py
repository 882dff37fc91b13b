"""The whole service looks whether its mail will pass DMARC: with its own addresses, keys and DNS, and counts it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from app_here import running
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.events import AlignmentWarning
from relay.lab.zones import Zone, Zones

pytestmark = pytest.mark.asyncio

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
RECORDS = f"""
_dmarc          TXT "v=DMARC1; p=reject"
s1._domainkey   TXT "v=DKIM1; k=ed25519; p={PUBLIC}"
"""


async def test_a_warning_and_a_refusal(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    zones = Zones({"ours.test": Zone(RECORDS), "lost.test": Zone('_dmarc TXT "v=DMARC1; p=reject"')})
    sections: dict[str, Any] = {
        "dns": {"nameservers": [str(await zones.start())]},
        "dkim_key": [{"domain": "ours.test", "selector": "s1", "key_file": str(file)}],
        "delivery": {"public_addresses": ["192.0.2.10"]},
        "route": [{"name": "away", "action": "discard", "recipient_domains": ["t.test"]}],
    }
    try:
        async with running(tmp_path / "warn", alignment={"check": "warn"}, **sections) as here:
            for domain in (b"ours.test", b"lost.test"):
                assert (await here.send(b"From: a@%s\r\n\r\nx\r\n" % domain)).startswith(b"250 ")
            await here.until(lambda: len(here.seen(AlignmentWarning)) == 2)
            told = {event.from_domain: (event.verdict, event.reason) for event in here.seen(AlignmentWarning)}
            apart = "SPF: the envelope domain from.test does not belong to"
            assert told == {
                "ours.test": ("partly", f"{apart} ours.test; DKIM: s1: many receivers cannot verify Ed25519"),
                "lost.test": ("fails", f"{apart} lost.test; DKIM: no key signs for lost.test"),
            }
        async with running(tmp_path / "refuse", alignment={"check": "refuse"}, **sections) as here:
            assert (await here.send(b"From: a@ours.test\r\n\r\nx\r\n")).startswith(b"250 ")
            assert (await here.send(b"From: a@lost.test\r\n\r\nx\r\n")).startswith(
                b"550 5.7.26 lost.test asks receivers to"
            )
        zones.asked.clear()
        async with running(tmp_path / "off", alignment={"check": "off"}, **sections) as here:
            assert (await here.send(b"From: a@lost.test\r\n\r\nx\r\n")).startswith(b"250 ")
        assert not [question for question in zones.asked if question.name.startswith("_dmarc.")]
    finally:
        await zones.stop()
