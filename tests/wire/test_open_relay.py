"""Every way that ever opened a relay, tried by a client that may send nothing: it hears no, and nothing is stored.

In clear text and over TLS, with users who could log in and without. What trusted clients may write is tested elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import argon2
import pytest
from submission_peer import HOSTNAME, LOOPBACK, Client, Running, Wanted, client_tls, lab_tls, running

from relay.events import DefectFound, MessageAccepted
from relay.settings import ClientSettings, NoticeSettings
from relay.submission.users import Users

pytestmark = pytest.mark.asyncio

SERVER_TLS = lab_tls()
TLS = client_tls()
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
OUR = "ours.test"  # a domain that a table lets its clients send from, and to

RECIPIENTS: list[str | bytes] = [
    "<victim@example.org>",
    f"<victim@{HOSTNAME}>",
    f"<victim@{OUR}>",
    "<victim@localhost>",
    "<victim@localhost.localdomain>",
    "<victim@[127.0.0.1]>",
    "<victim@127.0.0.1>",
    "<victim@[0.0.0.0]>",
    "<victim@[192.0.2.1]>",
    "<victim@[IPv6:::1]>",
    "<victim@[IPv6:::ffff:127.0.0.1]>",
    "<victim@[::1]>",
    "<victim@2130706433>",
    "<victim@0x7f000001>",
    # percent hacks, bang paths, addresses within addresses
    "<victim%example.org>",
    "<victim%example.org@>",
    f"<victim%example.org@{HOSTNAME}>",
    f"<victim%example.org@{OUR}>",
    "<victim%example.org@[127.0.0.1]>",
    "<victim%example.org@localhost>",
    f"<victim%example.org%{OUR}@{HOSTNAME}>",
    f"<victim%00@{HOSTNAME}>",
    "<victim%40example.org>",
    f"<victim%40example.org@{HOSTNAME}>",
    f"<example.org!victim@{HOSTNAME}>",
    f"<{HOSTNAME}!example.org!victim>",
    "<example.org!victim>",
    f"<{OUR}!victim@example.org>",
    f"<victim@example.org@{HOSTNAME}>",
    f"<victim@example.org@{OUR}>",
    "<victim@example.org@[127.0.0.1]>",
    f"<victim@{HOSTNAME}@example.org>",
    '<"victim@example.org">',
    f'<"victim@example.org"@{HOSTNAME}>',
    f'<"victim@example.org"@{OUR}>',
    '<"victim@example.org"@[127.0.0.1]>',
    '<"victim%example.org">',
    f'<"victim%example.org"@{HOSTNAME}>',
    '<"victim"@example.org>',
    f'<"{OUR}!victim"@example.org>',
    f"<victim=example.org@{OUR}>",
    f"<victim+example.org@{OUR}>",
    # source routes
    f"<@{HOSTNAME}:victim@example.org>",
    f"<@{OUR},@{HOSTNAME}:victim@example.org>",
    "<@[127.0.0.1]:victim@example.org>",
    f"<@example.org:victim@{HOSTNAME}>",
    f"<@{HOSTNAME}:@example.org:victim>",
    f"@{HOSTNAME}:victim@example.org",
    # brackets, blanks, comments, quotes
    "victim@example.org",
    "<victim@example.org",
    "victim@example.org>",
    "<<victim@example.org>>",
    "<victim@example.org><x@ours.test>",
    "<x@ours.test><victim@example.org>",
    "<x@ours.test>,<victim@example.org>",
    "<x@ours.test,victim@example.org>",
    "<x@ours.test;victim@example.org>",
    "<x@ours.test victim@example.org>",
    "<x@ours.test>(<victim@example.org>)",
    "< victim@example.org >",
    "<victim @example.org>",
    "<victim@ example.org>",
    "<(ours.test)victim@example.org>",
    "<victim@example.org(ours.test)>",
    "Victim <victim@example.org>",
    '"Victim" <victim@example.org>',
    "SMTP:victim@example.org",
    "<SMTP:victim@example.org>",
    "<mailto:victim@example.org>",
    "<IMCEASMTP-victim+40example+2Eorg@ours.test>",
    # ends of names
    "<victim@example.org.>",
    f"<victim@{OUR}.>",
    f"<victim@.{OUR}>",
    f"<victim@{OUR}.example.org>",
    f"<victim@example.org#{OUR}>",
    f"<victim@example.org?{OUR}>",
    f"<victim@example.org/{OUR}>",
    f"<victim@example.org\\@{OUR}>",
    # beyond ASCII: look-alikes, full-width signs, dots that are none
    "<victim@\u043eurs.test>",
    "<victim\uff20ours.test>",
    "<victim\uff20example.org@ours.test>",
    "<victim@ours\u3002test>",
    "<victim@xn--urs-hdd.test>",
    "<victim@\u2460.ours.test>",
    b"<victim\xc0\x80@example.org>",
    b"<victim\xff@example.org>",
    # names that stand for us
    "<postmaster>",
    "<Postmaster>",
    f"<postmaster@{HOSTNAME}>",
    f"<abuse@{HOSTNAME}>",
    "<root>",
    "<>",
    "<@>",
    "",
    # parameters
    "<victim@example.org> NOTIFY=NEVER",
    "<victim@example.org> ORCPT=rfc822;victim@ours.test",
    "<victim@example.org> AUTH=alice",
]
SENDERS = [
    "<>",
    f"<a@{OUR}>",
    f"<postmaster@{OUR}>",
    f"<a@{HOSTNAME}>",
    "<a@localhost>",
    "<a@[127.0.0.1]>",
    "<a@[IPv6:::1]>",
    f"<alice@{OUR}>",
    "<alice>",
    "alice",
    "<postmaster>",
    f"<a@{OUR}> AUTH=<>",
    f"<a@{OUR}> AUTH=alice@{OUR}",
    f"<a@{OUR}> AUTH=alice+40{OUR}",
    f"<a@{OUR}> AUTH=alice SIZE=1",
    f"<a@{OUR}> XVERP",
    f"<@{OUR}:a@{OUR}>",
    f"<victim@example.org@{OUR}>",
]
# What somebody may say of itself before MAIL.
INTRODUCTIONS = [
    ["HELO localhost"],
    [f"HELO {HOSTNAME}"],
    [f"EHLO {OUR}"],
    ["EHLO [127.0.0.1]"],
    ["EHLO alice"],
    ["HELO"],
    [],
    ["PROXY TCP4 192.0.2.77 127.0.0.1 1234 25", "EHLO x"],
    ["XCLIENT ADDR=192.0.2.77 NAME=trusted LOGIN=alice", "EHLO x"],
    ["EHLO x", "XCLIENT ADDR=192.0.2.77 LOGIN=alice"],
    ["EHLO x", "XFORWARD ADDR=192.0.2.77 NAME=localhost"],
    ["EHLO x", "ETRN example.org"],
    ["EHLO x", "TURN"],
    ["EHLO x", "XADR x", "XCIR x"],
    ["EHLO x", "VRFY victim@example.org", "EXPN all"],
    ["EHLO x", "AUTH PLAIN"],
    ["EHLO x", "AUTH ANONYMOUS", "AUTH EXTERNAL ="],
    ["EHLO x", f"EHLO {OUR}", "RSET"],
]
DOORS = ["clear text", "clear text, with users", "TLS", "STARTTLS"]


def wanted(folder: Path, door: str) -> Wanted:
    """Others may send: another network, alice; and there is a mailbox for the postmaster."""
    (folder / "users").write_text(f"alice:{CHEAP.hash('secret')}\n")
    tables = (
        {"name": "net", "networks": ["192.0.2.0/24"], "senders": [OUR], "recipients": [OUR]},
        {"name": "alice", "users": ["alice"]},
        {"name": "cert", "certificates": ["*"]},
    )
    given = {
        "client": tuple(map(ClientSettings.model_validate, tables)),
        "notices": NoticeSettings.model_validate({"postmaster": f"postmaster@{OUR}"}),
    }
    listen = {"listen": (), "listen_tls": (LOOPBACK,)} if door == "TLS" else {}
    if door == "clear text":
        return Wanted(tables=given, loopback_trusted=False)
    return Wanted(listen, given, SERVER_TLS, Users.load(folder / "users"), loopback_trusted=False)


async def come(server: Running, door: str) -> Client:
    client = await server.connect(tls=TLS if door == "TLS" else None)
    if door == "STARTTLS":
        await client.start_tls(TLS)
    return client


def octets(command: str, argument: str | bytes) -> bytes:
    return command.encode() + (argument if isinstance(argument, bytes) else argument.encode())


async def is_refused(client: Client, recipient: str | bytes, denied: str | None) -> None:
    answer = await client.ask(octets("RCPT TO:", recipient))
    assert answer.startswith(denied or "5"), (recipient, answer)
    assert (await client.ask("DATA")).startswith("503 "), recipient
    client.send(b"BDAT 5 LAST\r\nhello")
    assert (await client.reply()).startswith("503 "), recipient


async def nothing_came_in(server: Running) -> None:
    assert await server.stored() == []
    assert not server.queue.writers
    assert server.count(MessageAccepted) == 0
    assert server.count(DefectFound) == 0


@pytest.mark.parametrize("door", DOORS)
async def test_no_recipient_opens_the_relay(door: str, tmp_path: Path) -> None:
    """And none gets another answer than the others, which would tell what is known here."""
    denied = "550 5.7.1 Relaying denied" if door == "clear text" else "530 5.7.0 Authentication required"
    assert len(RECIPIENTS) >= 60
    async with running(tmp_path, wanted(tmp_path, door)) as server:
        for start in range(0, len(RECIPIENTS), 4):  # a client that errs too often is sent away
            async with await come(server, door) as client:
                await client.hello()
                for recipient in RECIPIENTS[start : start + 4]:
                    assert (await client.ask(f"MAIL FROM:<a@{OUR}> SMTPUTF8")).startswith("250 ")
                    await is_refused(client, recipient, denied)
                    await client.ask("RSET")
        await nothing_came_in(server)


@pytest.mark.parametrize("door", DOORS)
async def test_no_sender_opens_the_relay(door: str, tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path, door)) as server:
        for start in range(0, len(SENDERS), 4):
            async with await come(server, door) as client:
                await client.hello()
                for sender in SENDERS[start : start + 4]:
                    await client.ask(octets("MAIL FROM:", sender))
                    await is_refused(client, "<victim@example.org>", None)
                    await client.ask("RSET")
        await nothing_came_in(server)


@pytest.mark.parametrize("door", DOORS)
async def test_no_introduction_opens_the_relay(door: str, tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path, door)) as server:
        for lines in INTRODUCTIONS:
            async with await come(server, door) as client:
                for line in lines:
                    answer = await client.ask(line)
                    if answer.startswith("334 "):
                        await client.ask("*")
                for recipient in ("<victim@example.org>", f"<victim@{OUR}>", "<postmaster>"):
                    await client.ask(f"MAIL FROM:<a@{OUR}>")
                    await is_refused(client, recipient, None)
                    await client.ask("RSET")
        await nothing_came_in(server)


@pytest.mark.parametrize("door", ["clear text", "TLS"])
async def test_nothing_that_is_sent_in_one_breath_opens_the_relay(door: str, tmp_path: Path) -> None:
    """A whole message, header tricks included, without waiting for an answer."""
    header = f"Received: from {HOSTNAME} by {HOSTNAME}; now\r\nX-Relay: yes\r\nTo: v@example.org\r\nBcc: x@{OUR}\r\n"
    blob = f"EHLO x\r\nMAIL FROM:<a@{OUR}>\r\nRCPT TO:<v@example.org>\r\nDATA\r\n{header}\r\nhello\r\n.\r\n"
    async with running(tmp_path, wanted(tmp_path, door)) as server:
        for end in ("", "MAIL FROM:<>\r\nDATA\r\n.\r\nQUIT\r\n", "BDAT 5 LAST\r\nhello"):
            async with await come(server, door) as client:
                client.send((blob + end).encode() + b"\r\nQUIT\r\n")
                answers = []
                while answer := await client.reply():
                    answers.append(answer)
                assert not any(answer.startswith(("354", "250 2.0.0 q")) for answer in answers)
        await nothing_came_in(server)


async def test_who_may_send_to_some_gets_no_further(tmp_path: Path) -> None:
    """The same recipients, from a client with a list: only those in the list are taken, whatever they look like."""
    table = ClientSettings.model_validate({"name": "x", "networks": ["127.0.0.0/8"], "recipients": [OUR]})
    async with running(tmp_path, Wanted(tables={"client": (table,)})) as server:
        taken = set()
        for recipient in RECIPIENTS:
            async with await server.connect() as client:
                await client.hello()
                await client.ask("MAIL FROM:<a@b.test> SMTPUTF8")
                if (await client.ask(octets("RCPT TO:", recipient))).startswith("250 "):
                    taken.add(recipient)
        assert taken == {
            f"<victim@{OUR}>",
            f"<victim%example.org@{OUR}>",
            f'<"victim@example.org"@{OUR}>',
            f"<victim=example.org@{OUR}>",
            f"<victim+example.org@{OUR}>",
            "<IMCEASMTP-victim+40example+2Eorg@ours.test>",
            "<victim\uff20example.org@ours.test>",
            "<victim@ours\u3002test>",  # IDNA's other full stops: the same name
        }
