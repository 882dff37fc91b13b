"""What clients hear, and what is then stored: the dialogues of tests/data/inbound_dialogues.txt, over real sockets.

Each is held in clear text, after STARTTLS, and with TLS from the first octet. A dialogue there is the client's part and
what it must hear, from the greeting on:

    == its name
    who: trusted                             (that is so unless it is said) or `stranger`, or `user`, who has logged in
    over: plain starttls implicit            which of the three; all of them unless it is said, and a user needs TLS.
                                             `required`: in clear text where TLS must come first; `fixed`: in clear text
                                             where headers are made right, `lax`: where line ends are
    after: rcpt                              so far all went well: `hello`, `mail`, `rcpt`, `data` are the last command
    > NOOP                                   say a line; lines in a row go out in one piece
    >raw NOOP\\n                              say octets with escapes of Python, and no CRLF
    >times 3 RCPT TO:<r#@b.test>             say a line so often, # being the number, from 1
    >long 3000 NOOP                          say a line of so many octets, CRLF included; `>endless`: without one
    > message                                a small message and its final dot
    < 250 2.1.0                              a reply that begins so; `<times 3 250`: so many of them
    <offers DSN                              the reply to EHLO has this line; `<lacks`: none that begins so
    ! tls                                    shake hands
    ! closed                                 the server has closed; at the end of the others QUIT is said and heard
    ! leave                                  hang up in the middle
    = <a@a.test> <b@b.test> <c@b.test>       this is stored, sender first; the content must be the small message,
    | line                                   or these lines; `|raw` and `|long` as above
    with: ESMTPS                             so says the Received line
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import argon2
import pytest
import pytest_asyncio
from submission_peer import LOOPBACK, Client, Running, Stored, Wanted, client_tls, lab_tls, running

from relay.client_settings import ClientSettings
from relay.events import DefectFound
from relay.settings import ListenerSettings
from relay.submission.users import Users

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
HELLO = (("EHLO client.test", "250"),)
MAIL = (*HELLO, ("MAIL FROM:<a@a.test>", "250 2.1.0"))
RCPT = (*MAIL, ("RCPT TO:<b@b.test>", "250 2.1.5"))
DATA = (*RCPT, ("DATA", "354"))
SO_FAR = {"greeting": (), "hello": HELLO, "mail": MAIL, "rcpt": RCPT, "data": DATA}
LISTENERS = {
    ("trusted", "plain"): 0, ("trusted", "starttls"): 0, ("trusted", "implicit"): 1,
    ("stranger", "plain"): 2, ("stranger", "starttls"): 2, ("stranger", "implicit"): 3,
    ("user", "starttls"): 2, ("user", "implicit"): 3,
    ("trusted", "required"): 4, ("trusted", "fixed"): 5, ("trusted", "lax"): 6,
}  # fmt: skip
KINDS = {
    "trusted": ("starttls", "leave"), "trusted-tls": ("implicit", "leave"), "public": ("starttls", "leave"),
    "public-tls": ("implicit", "leave"), "msa": ("required", "leave"), "old": ("none", "fix"),
    "lax": ("none", "leave"),
}  # fmt: skip
LOGIN = "AUTH PLAIN AHVzZXIAcGVuY2ls"  # user, pencil
CLIENT_TLS = client_tls()

Step = Callable[[Client], object]


@dataclass(frozen=True)
class Expected:
    """A message as it must be in the queue."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass
class Dialogue:
    """One of them, as it is written down."""

    name: str
    fields: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)  # the sign, and what stands behind it
    stored: list[Expected] = field(default_factory=list)
    content: list[bytes] = field(default_factory=list)

    def add(self, line: str) -> None:
        sign, _, rest = line.partition(" ")
        if sign == "=":
            self._close()
            sender, *recipients = rest.split(" <")
            self.stored.append(Expected(sender[1:-1], tuple(one[:-1] for one in recipients), MESSAGE))
        elif sign == "|":
            self.content.append(rest.encode() + b"\r\n")
        elif sign == "|raw":
            self.content.append(octets(rest))
        elif sign == "|long":
            self.content.append(long_line(rest))
        elif sign[0] in "><!":
            assert sign in (">", ">raw", ">times", ">long", ">endless", "<", "<times", "<offers", "<lacks", "!"), line
            self.steps.append((sign, rest))
        else:
            name, colon, value = line.partition(": ")
            assert colon, line
            assert name in ("who", "over", "after", "with"), line
            self.fields[name] = value

    def _close(self) -> None:
        """The lines of content so far are those of the last message."""
        if self.content:
            last = self.stored[-1]
            self.stored[-1] = Expected(last.sender, last.recipients, b"".join(self.content))
            self.content = []

    def closed(self) -> Dialogue:
        self._close()
        return self

    @property
    def who(self) -> str:
        return self.fields.get("who", "trusted")

    @property
    def over(self) -> list[str]:
        given = self.fields.get("over", "plain starttls implicit").split()
        return [one for one in given if (self.who, one) in LISTENERS]


def octets(text: str) -> bytes:
    return bytes(eval(f"b'''{text}'''"))


def long_line(text: str) -> bytes:
    size, _, line = text.partition(" ")
    return (line.encode() + b" ").ljust(int(size) - 2, b"x") + b"\r\n"


def said(sign: str, text: str) -> bytes:
    """The octets of a `>` of whatever kind."""
    if sign == ">raw":
        return octets(text)
    if sign == ">times":
        number, _, line = text.partition(" ")
        return b"".join(line.replace("#", str(one)).encode() + b"\r\n" for one in range(1, int(number) + 1))
    if sign == ">endless":
        return b"x" * int(text)
    if sign == ">long":
        return long_line(text)
    return MESSAGE + b".\r\n" if text == "message" else text.encode() + b"\r\n"


def read_dialogues() -> list[Dialogue]:
    found: list[Dialogue] = []
    for line in (Path(__file__).parent.parent / "data" / "inbound_dialogues.txt").read_text().split("\n"):
        if line.startswith("== "):
            found.append(Dialogue(line[3:]))
        elif line.strip() and not line.startswith("#"):
            found[-1].add(line)
    return [dialogue.closed() for dialogue in found]


DIALOGUES = read_dialogues()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One for all: two listeners trust this machine, two know nobody; the queue is looked at after each dialogue."""
    folder = tmp_path_factory.mktemp("inbound")
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    (folder / "users").write_text(f"user:{hasher.hash('pencil')}\n")
    listeners = tuple(
        ListenerSettings(name=name, listen=(LOOPBACK,), tls=tls, headers=headers)  # type: ignore[arg-type]
        for name, (tls, headers) in KINDS.items()
    )
    trusting = tuple(name for name in KINDS if "public" not in name)
    who = {"networks": ("127.0.0.0/8",)}
    lax = ClientSettings.model_validate({"name": "lax", **who, "listeners": ("lax",), "line_ends": "normalise"})
    here = ClientSettings.model_validate({"name": "here", **who, "listeners": trusting})
    wanted = Wanted(
        # Nobody waits, and as many as there are dialogues may come from here in a minute.
        {"listen": (), "trusted_networks": (), "max_message_size": 100_000, "tarpit": None}
        | {"max_connections_per_address": None, "connections_per_minute": None},
        {"listener": listeners, "client": (lax, here)},
        tls=lab_tls(),
        users=Users.load(folder / "users"),
    )
    async with running(folder, wanted) as running_server:
        yield running_server


async def hold(dialogue: Dialogue, client: Client) -> None:
    """Say and hear all of it."""
    for command, expected in SO_FAR[dialogue.fields.get("after", "greeting")]:
        assert (await client.ask(command)).startswith(expected)
    reply, pending, end = "", b"", "quit"
    for sign, text in dialogue.steps:
        if sign[0] == ">":
            pending += said(sign, text)
            continue
        client.send(pending)
        pending = b""
        if sign == "!" and text == "tls":
            async with asyncio.timeout(20):
                await client.writer.start_tls(CLIENT_TLS)
        elif sign == "!":
            end = text
        elif sign in ("<offers", "<lacks"):
            lines = [line[4:] for line in reply.split("\n")[1:]]
            has = text in lines if sign == "<offers" else any(line.startswith(text) for line in lines)
            assert has == (sign == "<offers"), lines
        else:
            number, _, expected = text.partition(" ") if sign == "<times" else ("1", "", text)
            for one in range(int(number)):
                reply = await client.reply()
                assert reply.replace("-", " ", 1).startswith(expected), (
                    f"{expected!r} expected, heard {reply!r} ({one})"
                )
    client.send(pending)
    if end == "quit":
        assert (await client.ask("QUIT")).startswith("221 2.0.0 ")
    if end != "leave":
        assert await client.closed(), "the server says more than was asked"


def in_short(message: Stored) -> Expected:
    sender = message.claim.sender
    return Expected("" if sender is None else sender.text, message.recipients, message.body)


@pytest.mark.parametrize(
    ("dialogue", "over"),
    [pytest.param(one, over, id=f"{one.name}, {over}") for one in DIALOGUES for over in one.over],
)
async def test_dialogue(dialogue: Dialogue, over: str, server: Running) -> None:
    number = LISTENERS[dialogue.who, over]
    async with await server.connect(number, tls=CLIENT_TLS if over == "implicit" else None) as client:
        if over == "starttls":
            await client.start_tls(CLIENT_TLS)
        if dialogue.who == "user":
            await client.hello()
            assert (await client.ask(LOGIN)).startswith("235 2.7.0")
        await hold(dialogue, client)
    stored = await server.stored()
    assert [in_short(message) for message in stored] == dialogue.stored
    if "with" in dialogue.fields:
        for message in stored:
            words = message.trace.decode().split()
            assert words[words.index("with") + 1] == dialogue.fields["with"]
    assert server.count(DefectFound) == 0


async def test_there_are_enough_of_them() -> None:
    assert len(DIALOGUES) >= 120
    assert len({dialogue.name for dialogue in DIALOGUES}) == len(DIALOGUES)
    assert sum(1 for dialogue in DIALOGUES if dialogue.who == "stranger") >= 20
