"""A whole Relay that signs with the keys of the tests, and a client that submits the odd messages to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app_here import Here, running
from dkim_oracle import DOMAINS, RECORDS, SELECTORS, key_tables

from relay.lab.sink import Sink
from relay.lab.zones import Security, Zone, Zones

SESSIONS = 8


@asynccontextmanager
async def signing_relay(folder: Path, hosts: Mapping[str, int], canonicalization: str) -> AsyncIterator[Here]:
    """`hosts`: the port that takes the mail of a domain. Line ends of clients are mended."""
    routes = [
        {"name": domain.partition(".")[0], "recipient_domains": [domain], "hosts": [f"127.0.0.1:{port}"]}
        for domain, port in hosts.items()
    ]
    sections: dict[str, Any] = {
        "client": [{"name": "all", "networks": ["127.0.0.1/32"], "line_ends": "normalise"}],
        "route": routes,
        "dkim": {"canonicalization": canonicalization},
        "dkim_key": key_tables(),
    }
    zones = Zones({domain: Zone(_txt_records(domain), Security.UNSIGNED) for domain in DOMAINS})
    nameserver = await zones.start()  # the keys are compared with DNS
    try:
        async with running(folder, **sections, dns={"nameservers": [str(nameserver)]}) as here:
            yield here
    finally:
        await zones.stop()


def _txt_records(domain: str) -> str:
    """In zone-file form; a string in DNS has at most 255 octets."""
    lines = []
    for selector in SELECTORS:
        text = RECORDS[f"{selector}._domainkey.{domain}"]
        lines.append(f'{selector}._domainkey TXT "{text[:250]}" "{text[250:]}"\n')
    return "".join(lines)


async def submit_all(port: int, messages: Mapping[str, bytes], domains: Mapping[str, Sequence[str]]) -> None:
    """Submit each message to NAME@ each of its domains, by BDAT so that every octet stands, in a few sessions."""
    names = list(messages)
    async with asyncio.TaskGroup() as tasks:
        for number in range(SESSIONS):
            tasks.create_task(
                _session(port, [(name, messages[name], domains[name]) for name in names[number::SESSIONS]])
            )


async def _session(port: int, mails: Iterable[tuple[str, bytes, Sequence[str]]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _reply(reader, b"220")
    writer.write(b"EHLO client.sender.test\r\n")
    await _reply(reader, b"250")
    for name, octets, domains in mails:
        recipients = b"".join(f"RCPT TO:<{name}@{domain}>\r\n".encode() for domain in domains)
        writer.write(b"MAIL FROM:<s@sender.test> BODY=8BITMIME SMTPUTF8\r\n" + recipients)
        writer.write(b"BDAT %d LAST\r\n" % len(octets) + octets)
        for _ in range(len(domains) + 2):
            await _reply(reader, b"250", name)
    writer.close()


async def _reply(reader: asyncio.StreamReader, expected: bytes, name: str = "") -> None:
    line = await reader.readline()
    while line[3:4] == b"-":
        line = await reader.readline()
    assert line.startswith(expected), f"{name}: {line!r}"


def by_name(sink: Sink) -> dict[str, bytes]:
    """What arrived, by the local part that it was for. Each message arrived once."""
    arrived = {mail.recipients[0].partition("@")[0]: mail.octets for mail in sink.received}
    assert len(arrived) == len(sink.received)
    return arrived
