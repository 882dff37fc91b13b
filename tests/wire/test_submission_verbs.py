"""Every verb and every refusal, word for word, over a real connection."""

from __future__ import annotations

from pathlib import Path

import pytest
from submission_peer import HOSTNAME, Running, Wanted, running

from relay.events import MessageAccepted, SubmissionRefused
from relay.policy.routing import Entry, Reject, Routes

pytestmark = pytest.mark.asyncio

HELLO = ("EHLO client.example.test", "250 SMTPUTF8")  # overwritten below: the last line of EHLO
GREETED = [("HELO client.example.test", f"250 {HOSTNAME}")]
EXTENDED = [("EHLO client.example.test", "250-")]
SENDER = [*EXTENDED, ("MAIL FROM:<a@example.test>", "250 2.1.0 ")]
RECIPIENT = [*SENDER, ("RCPT TO:<b@example.test>", "250 2.1.5 ")]
LONG_LOCAL = "x" * 65
LONG_DOMAIN = ".".join(["d" * 60] * 5)

Dialogue = list[tuple[str, str]]

DIALOGUES: dict[str, Dialogue] = {
    "HELO": GREETED,
    "HELO in lower case": [("helo client", f"250 {HOSTNAME}")],
    "HELO without a name": [("HELO", "501 5.5.4 "), ("HELO ", "501 5.5.4 ")],
    "EHLO without a name": [("EHLO", "501 5.5.4 ")],
    "EHLO with a literal": [("EHLO [127.0.0.1]", "250-")],
    "EHLO forgets the message": [*SENDER, *EXTENDED, ("RCPT TO:<b@example.test>", "503 5.5.1 ")],
    "MAIL before EHLO": [("MAIL FROM:<a@example.test>", "503 5.5.1 ")],
    "RCPT before EHLO": [("RCPT TO:<a@example.test>", "503 5.5.1 ")],
    "DATA before EHLO": [("DATA", "503 5.5.1 ")],
    "RCPT before MAIL": [*EXTENDED, ("RCPT TO:<a@example.test>", "503 5.5.1 ")],
    "DATA before MAIL": [*EXTENDED, ("DATA", "503 5.5.1 ")],
    "DATA before RCPT": [*SENDER, ("DATA", "503 5.5.1 ")],
    "DATA with an argument": [*RECIPIENT, ("DATA now", "501 5.5.4 ")],
    "MAIL twice": [*SENDER, ("MAIL FROM:<a@example.test>", "503 5.5.1 ")],
    "MAIL after RSET": [*SENDER, ("RSET", "250 2.0.0 "), ("MAIL FROM:<a@example.test>", "250 2.1.0 ")],
    "RSET forgets recipients": [*RECIPIENT, ("RSET", "250 2.0.0 "), ("DATA", "503 5.5.1 ")],
    "RSET with an argument": [("RSET now", "501 5.5.4 ")],
    "NOOP": [("NOOP", "250 2.0.0 "), ("NOOP whatever it is", "250 2.0.0 ")],
    "VRFY": [("VRFY postmaster", "252 2.0.0 ")],
    "VRFY nobody": [("VRFY", "501 5.5.4 ")],
    "EXPN": [("EXPN staff", "502 5.5.1 ")],
    "HELP": [("HELP", "214 2.0.0 "), ("HELP MAIL", "214 2.0.0 ")],
    "BDAT before EHLO": [("BDAT 0 LAST", "503 5.5.1 Send EHLO")],
    "BDAT before MAIL": [*EXTENDED, ("BDAT 0 LAST", "503 5.5.1 Send MAIL")],
    "BDAT before RCPT": [*SENDER, ("BDAT 0", "503 5.5.1 No valid"), ("RCPT TO:<b@example.test>", "250 2.1.5 ")],
    "BDAT, and no DATA": [
        *RECIPIENT,
        ("BDAT 0", "250 2.0.0 0 octets"),
        ("DATA", "503 5.5.1 "),
        ("BDAT 0 LAST", "250 "),
    ],
    "BDAT, and no RCPT": [*RECIPIENT, ("BDAT 0", "250 2.0.0 "), ("RCPT TO:<c@example.test>", "503 5.5.1 ")],
    "BDAT, and no MAIL": [*RECIPIENT, ("BDAT 0", "250 2.0.0 "), ("MAIL FROM:<c@example.test>", "503 5.5.1 ")],
    "BDAT after the last": [*RECIPIENT, ("BDAT 0 LAST", "250 2.0.0 "), ("BDAT 0 LAST", "503 5.5.1 Send MAIL")],
    "BDAT, RSET": [*RECIPIENT, ("BDAT 0", "250 2.0.0 "), ("RSET", "250 "), ("BDAT 0 LAST", "503 5.5.1 Send MAIL")],
    "BDAT, EHLO": [*RECIPIENT, ("BDAT 0", "250 2.0.0 "), *EXTENDED, ("BDAT 0 LAST", "503 5.5.1 Send MAIL")],
    "BDAT, NOOP": [
        *RECIPIENT,
        ("BDAT 0", "250 2.0.0 "),
        ("NOOP", "250 "),
        ("bdat  0 \t last ", "250 2.0.0 queued as "),
    ],
    "BDAT with something else": [*RECIPIENT, ("BDAT 0 FIRST", "501 5.5.4 "), ("BDAT 0 LAST X", "501 5.5.4 ")],
    "BDAT, QUIT": [*RECIPIENT, ("BDAT 0", "250 2.0.0 "), ("QUIT", "221 2.0.0 ")],
    "TURN": [("TURN", "502 5.5.1 ")],
    "unknown verb": [("FROB", "500 5.5.2 "), ("frob x", "500 5.5.2 ")],
    "empty line": [("", "500 5.5.2 "), (" MAIL FROM:<a@example.test>", "500 5.5.2 ")],
    "names of Python": [("__class__", "500 5.5.2 "), ("EHLO__", "500 5.5.2 "), ("MAIL\x2e", "500 5.5.2 ")],
    "verb not ASCII": [("MÄIL FROM:<a@example.test>", "500 5.5.2 "), ("maıl x", "500 5.5.2 ")],
    "control characters": [
        ("NOOP \0", "500 5.5.2 "),
        ("NOOP \x1b[2J", "500 5.5.2 "),
        ("NOOP a\rb", "500 5.5.2 "),
        ("NOOP \x7f", "500 5.5.2 "),
        ("NOOP a\tb", "250 2.0.0 "),
    ],
    "line of 2048 octets": [("NOOP " + "x" * 2041, "250 2.0.0 ")],
    "line of 2049 octets": [("NOOP " + "x" * 2042, "500 5.5.2 "), ("NOOP", "250 2.0.0 ")],
    "line of 20000 octets": [("NOOP " + "x" * 20000, "500 5.5.2 "), ("NOOP", "250 2.0.0 ")],
    "STARTTLS without a certificate": [*EXTENDED, ("STARTTLS", "502 5.5.1 ")],
    "STARTTLS with an argument": [*EXTENDED, ("STARTTLS now", "501 5.5.4 ")],
    "AUTH without users": [*EXTENDED, ("AUTH PLAIN AGEAYg==", "502 5.5.1 ")],
    "QUIT": [("QUIT", "221 2.0.0 ")],
    "QUIT with an argument": [("QUIT now", "501 5.5.4 "), ("QUIT", "221 2.0.0 ")],
}

SENDERS: dict[str, str] = {
    "<a@example.test>": "250 2.1.0 ",
    " <a@example.test>": "250 2.1.0 ",  # not RFC 5321, and very common
    "<>": "250 2.1.0 ",
    "<a+b=c@example.test>": "250 2.1.0 ",
    "<a%b@example.test>": "250 2.1.0 ",
    '<"a b"@example.test>': "250 2.1.0 ",
    '<"a>b"@example.test> SIZE=1': "250 2.1.0 ",
    "<a@[192.0.2.1]>": "250 2.1.0 ",
    "<a@[IPv6:2001:db8::1]>": "250 2.1.0 ",
    "<a@example.test> SIZE=1000": "250 2.1.0 ",
    "<a@example.test>  SIZE=1000  BODY=8BITMIME ": "250 2.1.0 ",
    "<a@example.test> size=1000 body=7bit": "250 2.1.0 ",
    "<a@example.test> AUTH=<>": "250 2.1.0 ",
    "<a@example.test> AUTH=e+3Dmc2@example.com": "250 2.1.0 ",
    "<a@example.test> SMTPUTF8": "250 2.1.0 ",
    "<ä@example.test> SMTPUTF8": "250 2.1.0 ",
    "<a@exämple.test> SMTPUTF8": "250 2.1.0 ",
    "<a@example.test> SIZE=10240": "250 2.1.0 ",
    "<a@example.test> SIZE=10241": "552 5.3.4 ",
    "<a@example.test> SIZE=99999999999999999999": "552 5.3.4 ",
    "<a@example.test> SIZE=999999999999999999999": "501 5.5.4 ",
    "<a@example.test> SIZE=-1": "501 5.5.4 ",
    "<a@example.test> SIZE=1k": "501 5.5.4 ",
    "<a@example.test> SIZE=": "501 5.5.4 ",
    "<a@example.test> SIZE": "501 5.5.4 ",
    "<a@example.test> SIZE=1 SIZE=2": "501 5.5.4 ",
    "<a@example.test> BODY=BINARYMIME": "501 5.5.4 ",
    "<a@example.test> BODY": "501 5.5.4 ",
    "<a@example.test> SMTPUTF8=yes": "501 5.5.4 ",
    "<a@example.test> AUTH": "501 5.5.4 ",
    "<a@example.test> =x": "501 5.5.4 ",
    "<a@example.test> RET=FULL ENVID=QQ314159": "250 2.1.0 ",
    "<a@example.test> RET=ALL": "501 5.5.4 RET takes FULL or HDRS",
    "<a@example.test> REQUIRETLS": "530 5.7.10 ",
    "<a@example.test> MT-PRIORITIES=3": "555 5.5.4 ",
    "<ä@example.test>": "553 5.6.7 ",
    "<a@exämple.test>": "553 5.6.7 ",
    "<postmaster>": "553 5.1.7 ",
    "<a>": "553 5.1.7 ",
    "<a b@example.test>": "501 5.5.4 ",
    "<a@example..test>": "553 5.1.7 ",
    "<a@example.test.>": "553 5.1.7 ",
    "<@relay.test:a@example.test>": "553 5.1.7 ",
    "<a(comment)@example.test>": "553 5.1.7 ",
    f"<{LONG_LOCAL}@example.test>": "553 5.1.7 ",
    f"<a@{LONG_DOMAIN}>": "553 5.1.7 ",
    "a@example.test": "501 5.5.4 ",
    "<a@example.test": "501 5.5.4 ",
    "a@example.test>": "501 5.5.4 ",
    "<<a@example.test>>": "501 5.5.4 ",
    "<a@example.test>SIZE=1": "501 5.5.4 ",
    "<a@example.test> <b@example.test>": "501 5.5.4 ",
    "Name <a@example.test>": "501 5.5.4 ",
    "": "501 5.5.4 ",
}

RECIPIENTS: dict[str, str] = {
    "<b@example.test>": "250 2.1.5 ",
    " <b@example.test>": "250 2.1.5 ",
    "<b@[127.0.0.1]>": "250 2.1.5 ",
    '<"b c"@example.test>': "250 2.1.5 ",
    "<>": "501 5.1.3 ",
    "<postmaster>": "550 5.1.1 ",
    "<PostMaster>": "550 5.1.1 ",
    "<postmaster@example.test>": "250 2.1.5 ",
    "<b>": "553 5.1.3 ",
    "<b@>": "553 5.1.3 ",
    "<@example.test>": "553 5.1.3 ",
    "<@a.test,@b.test:b@example.test>": "553 5.1.3 ",
    "<b@example.test> NOTIFY=NEVER ORCPT=rfc822;b@example.test": "250 2.1.5 ",
    "<b@example.test> NOTIFY=ALWAYS": "501 5.5.4 NOTIFY takes NEVER, or some of ",
    "<b@example.test> X": "555 5.5.4 ",
    "<b@example.test> =": "501 5.5.4 ",
    "<b@example.test>X": "501 5.5.4 ",
    "b@example.test": "501 5.5.4 ",
    "<ö@example.test>": "553 5.6.7 ",
    "<=?utf-8?q?x?=@example.test>": "250 2.1.5 ",
    "": "501 5.5.4 ",
}


async def say_all(server: Running, dialogue: Dialogue) -> None:
    async with await server.connect() as client:
        for line, expected in dialogue:
            answer = await client.ask(line)
            assert answer.splitlines()[-1].startswith(expected) or answer.startswith(expected), (line, answer)


@pytest.mark.parametrize("name", DIALOGUES)
async def test_dialogue(name: str, tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await say_all(server, DIALOGUES[name])


async def test_senders(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_message_size": 10240})) as server:
        for argument, expected in SENDERS.items():
            await say_all(server, [*EXTENDED, (f"MAIL FROM:{argument}", expected)])


async def test_recipients(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        for argument, expected in RECIPIENTS.items():
            await say_all(server, [*SENDER, (f"RCPT TO:{argument}", expected)])


async def test_recipient_with_smtputf8(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await say_all(
            server, [*EXTENDED, ("MAIL FROM:<> SMTPUTF8", "250 2.1.0 "), ("RCPT TO:<ö@exämple.test>", "250 2.1.5 ")]
        )


async def test_address_that_is_not_utf8(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        assert (await client.ask(b"MAIL FROM:<\xff@example.test> SMTPUTF8")).startswith("553 5.1.7 ")
        assert (await client.ask("MAIL FROM:<a@example.test> SMTPUTF8")).startswith("250 ")
        assert (await client.ask(b"RCPT TO:<\xff@example.test>")).startswith("553 5.1.3 ")


async def test_parameters_after_helo(tmp_path: Path) -> None:
    dialogue = [
        *GREETED,
        ("MAIL FROM:<a@example.test> SIZE=1", "555 5.5.4 "),
        ("MAIL FROM:<a@example.test>", "250 2.1.0 "),
    ]
    async with running(tmp_path) as server:
        await say_all(server, dialogue)


@pytest.mark.parametrize("command", ["MAIL FROM:<a@example.test>\n", "EHLO x\n", "NOOP\n", "\n"])
async def test_bare_lf_is_no_line_end(command: str, tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        client.send(command.encode())
        assert (await client.reply()).startswith("500 5.5.2 ")
        assert (await client.ask("NOOP")).startswith("250 2.0.0 ")


async def test_endless_line(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        client.send(b"NOOP " + b"x" * 70000)
        assert (await client.reply()).startswith("500 5.5.2 ")
        assert await client.closed()


async def test_what_ehlo_offers_in_clear_text(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_message_size": 123456})) as server, await server.connect() as client:
        assert (await client.hello()).splitlines() == [
            f"250-{HOSTNAME}",
            "250-SIZE 123456",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250-PIPELINING",
            "250-CHUNKING",
            "250-ENHANCEDSTATUSCODES",
            "250-DSN",
            "250-DELIVERBY",
            "250-MT-PRIORITY",
            "250-LIMITS RCPTMAX=1000",
            "250 FUTURERELEASE 2592000 2026-04-03T05:06:00Z",
        ]


@pytest.mark.parametrize(
    ("networks", "answer"),
    [
        (("127.0.0.0/8",), "250 "),
        (("127.0.0.1/32",), "250 "),
        (("127.0.0.2/32", "::1/128"), "550 5.7.1 "),
        ((), "550 5.7.1 "),
    ],
)
async def test_trusted_networks(networks: tuple[str, ...], answer: str, tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"trusted_networks": networks})) as server:
        await say_all(server, [*SENDER, ("RCPT TO:<b@example.test>", answer)])


async def test_a_route_that_rejects_is_heard_of_at_rcpt(tmp_path: Path) -> None:
    """The others of the message are taken; notices (the null sender) are told apart."""
    entries = (
        Entry("shut", Reject("shut", "not to there"), ("shut.test",)),
        Entry("quiet", Reject("quiet", "no notices"), ("quiet.test",), ("<>",)),
    )
    async with running(tmp_path, Wanted(refusal=Routes(entries).refusal)) as server:
        rest = [
            ("RCPT TO:<b@shut.test>", "550 5.7.1 not to there"),
            ("RCPT TO:<b@quiet.test>", "250 "),
            ("DATA", "354 "),
            ("Subject: x\r\n\r\n.", "250 2.0.0 "),
            ("MAIL FROM:<>", "250 "),
            ("RCPT TO:<b@quiet.test>", "550 5.7.1 no notices"),
        ]
        await say_all(server, [*SENDER, *rest])
        refusal = await server.event(SubmissionRefused)
        assert isinstance(refusal, SubmissionRefused)
        assert (refusal.about, refusal.reply) == ("RCPT TO:<b@shut.test>", "550 5.7.1 not to there")
        accepted = await server.event(MessageAccepted)
        assert isinstance(accepted, MessageAccepted) and accepted.recipients == 1


async def test_too_many_recipients(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_recipients": 100})) as server, await server.connect() as client:
        await client.hello()
        await client.ask("MAIL FROM:<a@example.test>")
        for number in range(100):
            assert (await client.ask(f"RCPT TO:<r{number}@example.test>")).startswith("250 ")
        for name in ("one-more", "another", "a-third"):
            assert (await client.ask(f"RCPT TO:<{name}@example.test>")).startswith("452 4.5.3 ")
        assert server.count(SubmissionRefused) == 1  # ten thousand of them are no ten thousand lines
        assert (await client.ask("RCPT TO:<r7@example.test>")).startswith("250 ")  # has its place already
        await client.ask("DATA")
        assert (await client.ask("x\r\n.")).startswith("250 2.0.0 ")
        (message,) = await server.stored()
        assert message.recipients == tuple(f"r{number}@example.test" for number in range(100))


async def test_same_recipient_twice_is_stored_once(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        given = ("b@example.test", "b@EXAMPLE.test", "B@example.test", "b@example.test", "c@example.test")
        await client.deliver(b"x\r\n.\r\n", *given)
        (message,) = await server.stored()
        assert message.recipients == ("b@example.test", "B@example.test", "c@example.test")


async def test_too_many_errors(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        answers = [await client.ask(f"FROB {number}") for number in range(20)]
        assert [answer[:9] for answer in answers] == ["500 5.5.2"] * 19 + ["421 4.7.0"]
        assert await client.closed()


@pytest.mark.parametrize("message", [b"DATA\r\nx\r\n.\r\n", b"BDAT 3 LAST\r\nx\r\n"])
async def test_a_message_makes_up_for_mistakes(message: bytes, tmp_path: Path) -> None:
    """Mail servers keep a session for thousands of messages, a few of which are odd."""
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        for _ in range(3):
            assert [(await client.ask("FROB"))[:3] for _ in range(15)] == ["500"] * 15
            client.send(b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n" + message)
            answers = [(await client.reply())[:3] for _ in range(3 + message.startswith(b"DATA"))]
            assert answers[-1] == "250"
        assert len(await server.stored()) == 3


async def test_recipient_after_recipient_by_a_stranger(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(loopback_trusted=False)) as server, await server.connect() as client:
        await client.hello()
        await client.ask("MAIL FROM:<a@example.test>")
        answers = [await client.ask(f"RCPT TO:<r{number}@example.test>") for number in range(20)]
        assert [answer[:9] for answer in answers] == ["550 5.7.1"] * 19 + ["421 4.7.0"]


async def test_bad_addresses_are_no_errors_of_the_client(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        await client.ask("MAIL FROM:<a@example.test>")
        for number in range(40):
            assert (await client.ask(f"RCPT TO:<r{number}>")).startswith("553 5.1.3 ")
        assert (await client.ask("RCPT TO:<b@example.test>")).startswith("250 ")


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST / HTTP/1.1", "CONNECT x:25 HTTP/1.1", "PRI * HTTP/2.0"])
async def test_a_browser_is_shown_out(line: str, tmp_path: Path) -> None:
    body = b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nx\r\n.\r\n"
    smuggled = b"\r\nHost: localhost\r\n\r\n" + body
    async with running(tmp_path) as server, await server.connect() as client:
        client.send(line.encode() + smuggled)
        assert (await client.reply()).startswith("421 4.7.0 ")
        assert await client.closed()
        assert await server.stored() == []


async def test_control_characters_do_not_come_back(tmp_path: Path) -> None:
    """Neither in replies nor in what is logged: the client chose them."""
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        sender = "<\u0085\u2028\U0010ffff@" + "exa<>mple..test>"
        for argument in (sender, f"<{'é' * 700}@example..test> SMTPUTF8", "<\u0085@example..test> SMTPUTF8"):
            answer = await client.ask(f"MAIL FROM:{argument}")
            assert answer[:3] in ("501", "553")
            assert answer.isprintable()
        for event in server.events:
            assert not isinstance(event, SubmissionRefused) or event.about.isprintable() or "\ufffd" in event.about
