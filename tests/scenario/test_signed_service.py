"""The whole service signs: mail with the keys that DNS has, and its own notices too."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from app_here import running
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from plain_dkim import verify

from relay.events import DkimKeyMatches, DkimKeyMismatch
from relay.lab.sink import Sink, SinkScript
from relay.lab.zones import Security, Zone, Zones

pytestmark = pytest.mark.asyncio


async def test_mail_and_notices_are_signed_with_the_keys_that_dns_has(tmp_path: Path) -> None:
    sink, zones = Sink(SinkScript(rcpt={"no@t.test": ("550 5.1.1 nobody",)})), Zones({})
    nameserver = await zones.start()
    tables, public, records = list[object](), dict[tuple[str, str], bytes](), dict[tuple[str, str], str]()
    for selector, domain in (("a", "from.test"), ("b", "from.test"), ("c", "relay.test")):
        key, path = Ed25519PrivateKey.generate(), tmp_path / f"{selector}.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        tables.append({"domain": domain, "selector": selector, "key_file": str(path)})
        octets = public[selector, domain] = key.public_key().public_bytes_raw()
        in_dns = base64.b64encode(octets).decode()
        records[selector, domain] = f'{selector}._domainkey TXT "v=DKIM1; k=ed25519; p={in_dns}"'
    zones.set("from.test", Zone(records["a", "from.test"], Security.UNSIGNED, 5))  # b is not there
    zones.set("relay.test", Zone(records["c", "relay.test"], Security.UNSIGNED, 5))
    async with running(
        tmp_path / "queue",
        await sink.start(),
        dkim_key=tables,
        dkim={"on_mismatch": "skip"},
        dns={"nameservers": [str(nameserver)]},
    ) as here:
        await here.until(lambda: len(here.seen(DkimKeyMatches)) == 2 and here.seen(DkimKeyMismatch))
        body = b"From: s@from.test\r\nSubject: x\r\n\r\n.Hi.  \r\n\r\n"
        assert (await here.send(body)).startswith(b"250")
        assert (await here.send(body, b"no@t.test")).startswith(b"250")
        mail, notice = sorted(await sink.wait_for(2), key=lambda one: one.sender, reverse=True)
        assert verify(mail.octets, public) == [("a", "from.test", "pass")]
        assert notice.sender == ""
        assert verify(notice.octets, public) == [("c", "relay.test", "pass")]
    await sink.stop()
    await zones.stop()
