"""Mail from the command line, handed to a real server: one answer for each recipient, TLS and login as it must be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import argon2
import pytest
from submission_peer import LOOPBACK, Running, Wanted, running

from relay.lab.certs import Issued, LabCa
from relay.mail.address import Address
from relay.mail.message import MessageDsn, Notify, RecipientDsn, Ret, TlsDemand
from relay.posting.compose import Author, Draft, Wish, compose
from relay.posting.deliver import Asked, deliver
from relay.posting.place import Server
from relay.posting.result import Exit, Result
from relay.settings import HostPort
from relay.submission.users import Users
from relay.submission_settings import ListenerTls

pytestmark = pytest.mark.asyncio

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CA = LabCa.make(datetime.now(UTC))
GOOD: Issued = CA.issue(("127.0.0.1",))
CONTEXT = GOOD.server_context()
ASKED = Asked()
USER, PASSWORD = "alice", "sécret"


def draft(*recipients: str, text: str = "Subject: x\n\nhello\n", sender: str = "me@example.test") -> Draft:
    wish = Wish(sender, recipients or ("to@example.test",), extract=False, dot_ends=False)
    return compose(text.encode(), wish, Author("me", "box.example.test", ""), NOW, "unique")


def server(there: Running, number: int = 0, tls: ListenerTls = ListenerTls.NONE, **more: Any) -> Server:
    return Server(there.addresses[number], tls, "client.example.test", **{"here": True, **more})


async def handed(draft: Draft, server: Server, asked: Asked = ASKED, heard: list[str] | None = None) -> Result:
    return await asyncio.to_thread(deliver, draft, server, asked, None if heard is None else heard.append)


async def test_a_message_is_in_the_queue_when_it_is_answered(tmp_path: Path) -> None:
    heard: list[str] = []
    async with running(tmp_path) as there:
        text = "Subject: x\n\n.\n..dots\nhéllo\n"
        result = await handed(draft("a@example.test", "b@example.org", text=text), server(there), heard=heard)
        (stored,) = await there.stored()
    assert (result.exit, result.lines) == (Exit.OK, ())
    assert [reply.text for reply in result.replies] == [f"250 2.0.0 queued as {stored.claim.id}"]
    assert stored.recipients == ("a@example.test", "b@example.org")
    assert stored.body.endswith(b"\r\n\r\n.\r\n..dots\r\nh\xc3\xa9llo\r\n")
    assert stored.claim.eight_bit
    assert f"C: MAIL FROM:<me@example.test> SIZE={len(stored.body)} BODY=8BITMIME" in heard
    assert heard[0].startswith("S: 220 ")
    assert heard[-1].startswith("S: 221 ")


async def test_what_is_asked_for_goes_along(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(tls=CONTEXT)) as there:
        asked = Asked(MessageDsn(Ret.HDRS, "a+2Bb"), Notify.SUCCESS | Notify.DELAY, requiretls=True)
        secure = server(there, tls=ListenerTls.REQUIRED)
        result = await handed(draft("jörg@example.test", sender=""), secure, asked)
        (stored,) = await there.stored()
    assert result.exit is Exit.OK
    claim = stored.claim
    assert (claim.sender, claim.dsn, claim.demand) == (None, asked.dsn, TlsDemand.REQUIRED)
    assert claim.recipients[0].dsn == RecipientDsn(asked.notify)
    assert claim.recipients[0].address.needs_smtputf8


async def test_one_refused_recipient_is_told_and_the_others_get_the_message(tmp_path: Path) -> None:
    def refusal(_sender: object, _login: object, recipient: Address) -> str | None:
        return "no mail to there" if recipient.domain == "no.example" else None

    async with running(tmp_path, Wanted(refusal=refusal)) as there:
        some = await handed(draft("a@no.example", "b@example.test"), server(there))
        none = await handed(draft("a@no.example"), server(there))
        (stored,) = await there.stored()
    assert stored.recipients == ("b@example.test",)
    assert (some.exit, none.exit) == (Exit.NO_USER, Exit.NO_USER)
    assert some.lines == (
        "<a@no.example>: 550 5.7.1 no mail to there",
        f"the other recipients have it: 250 2.0.0 queued as {stored.claim.id}",
    )
    assert none.lines == ("<a@no.example>: 550 5.7.1 no mail to there",)


async def test_who_is_too_many_for_one_message_gets_another(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_recipients": 100})) as there:
        result = await handed(draft(*(f"a{number}@example.test" for number in range(205))), server(there))
        stored = await there.stored()
    assert result.exit is Exit.OK
    assert [len(one.recipients) for one in stored] == [100, 100, 5]
    assert len(result.replies) == 3


async def test_a_message_that_is_not_wanted(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_message_size": "1k"})) as there:
        large = await handed(draft(text="Subject: x\n\n" + "x" * 70 + "\n" * 2000), server(there))
        nul = await handed(draft(text="a\0b\n"), server(there))
        assert await there.stored() == []
    assert large.exit is Exit.UNAVAILABLE
    assert large.lines == ("MAIL: 552 5.3.4 Message too big",)
    assert nul.exit is Exit.DATA
    assert nul.lines[0].startswith("the message: 554 5.6.0 NUL in the message")


async def test_an_address_that_a_terminal_would_take_for_commands(tmp_path: Path) -> None:
    heard: list[str] = []
    async with running(tmp_path) as there:
        assert (await handed(draft("a\x9bb@example.test"), server(there), heard=heard)).exit is Exit.OK
    assert "C: RCPT TO:<a?b@example.test>" in heard


async def test_a_stranger_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(loopback_trusted=False)) as there:
        result = await handed(draft(), server(there))
    assert result.exit is Exit.NO_USER
    assert "550 5.7.1 Relaying denied" in result.lines[0]


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Users:
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_text(f"{USER}:{argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)}\n")
    return Users.load(path)


async def test_the_password_goes_over_tls_to_who_proves_his_name(tmp_path: Path, users: Users) -> None:
    """Over STARTTLS and over TLS from the start; and neither to another name nor to an unknown authority."""
    heard: list[str] = []
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(CA.pem)
    listen = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,)}
    async with running(tmp_path, Wanted(listen, tls=CONTEXT, users=users, loopback_trusted=False)) as there:
        far: dict[str, Any] = {"here": False, "user": USER, "password": PASSWORD, "ca_file": authorities}
        for number, tls in ((0, ListenerTls.STARTTLS), (1, ListenerTls.IMPLICIT)):
            result = await handed(draft(), server(there, number, tls, **far), heard=heard)
            assert result.exit is Exit.OK, result
        (first, second) = await there.stored()
        assert {first.claim.login, second.claim.login} == {USER}
        wrong = await handed(
            draft(), server(there, 1, ListenerTls.IMPLICIT, **{**far, "password": "wrong"}), heard=heard
        )
        assert wrong.exit is Exit.NO_PERMISSION
        assert wrong.lines == ("the login as alice: 535 5.7.8 Authentication credentials invalid",)
        unknown = await handed(draft(), server(there, 0, ListenerTls.STARTTLS, **{**far, "ca_file": None}))
        assert unknown.exit is Exit.TEMPORARY
        assert "the certificate is not good: " in unknown.lines[0]
    assert "C: AUTH PLAIN ****" in heard
    assert not any(secret in line for line in heard for secret in (PASSWORD, "wrong", "c8OpY3JldA"))


async def test_no_password_without_tls(tmp_path: Path) -> None:
    heard: list[str] = []
    async with running(tmp_path) as there:
        for tls in (ListenerTls.STARTTLS, ListenerTls.NONE):
            far = server(there, tls=tls, here=False, user=USER, password=PASSWORD)
            result = await handed(draft(), far, heard=heard)
            assert result.exit is Exit.UNAVAILABLE
            assert result.lines == (f"{there.addresses[0]}: there is no TLS there, and nothing is sent without",)
        required = await handed(draft(), server(there, tls=ListenerTls.REQUIRED))
        assert required.exit is Exit.UNAVAILABLE
    assert not any("AUTH" in line for line in heard if line.startswith("C:"))


async def test_nobody_there() -> None:
    result = await handed(draft(), Server(HostPort(host="127.0.0.1", port=1), ListenerTls.NONE, "x.test", here=True))
    assert (result.exit, result.lines) == (Exit.TEMPORARY, ("127.0.0.1:1: Connection refused",))


Script = dict[str, list[str]]
CLOSE = "close"


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Server]:
    """A server that gives each verb the next answer of its list, and 250 when there is none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = {verb: list(replies) for verb, replies in script.items()}
        verb = "CONNECT"
        while True:
            otherwise = {"CONNECT": "220 hi", "DATA": "354 go on"}.get(verb, "250 ok")
            answer = (left.get(verb) or [otherwise]).pop(0) if left.get(verb) else otherwise
            if answer == CLOSE:
                break
            writer.write(answer.encode() + b"\r\n")
            if verb == "DATA" and answer.startswith("354"):
                await reader.readuntil(b"\r\n.\r\n")
                verb = "DOT"
                continue
            line = await reader.readline()
            if not line or line.startswith(b"QUIT"):
                break
            verb = line[:4].decode()
        writer.close()

    there = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with there:
        port = there.sockets[0].getsockname()[1]
        yield Server(HostPort(host="127.0.0.1", port=port), ListenerTls.NONE, "x.test", here=True)


@pytest.mark.parametrize(
    ("script", "exit", "line"),
    [
        ({"CONNECT": ["554 5.7.1 go away"]}, Exit.UNAVAILABLE, "the greeting: 554 5.7.1 go away"),
        ({"CONNECT": ["421 4.7.0 busy"]}, Exit.TEMPORARY, "the greeting: 421 4.7.0 busy"),
        ({"CONNECT": ["HTTP/1.1 400 no"]}, Exit.TEMPORARY, ": what came is no SMTP reply"),
        ({"CONNECT": [CLOSE]}, Exit.TEMPORARY, ": the server has closed the connection"),
        ({"CONNECT": ["220-x\r\n" * 300]}, Exit.TEMPORARY, ": a reply has no end"),
        ({"EHLO": ["502 5.5.1 what"]}, Exit.UNAVAILABLE, "EHLO: 502 5.5.1 what"),
        ({"MAIL": ["451 4.3.0 later"]}, Exit.TEMPORARY, "MAIL: 451 4.3.0 later"),
        ({"MAIL": ["550 5.1.8 no"]}, Exit.UNAVAILABLE, "MAIL: 550 5.1.8 no"),
        ({"MAIL": ["530 5.7.0 log in"]}, Exit.NO_PERMISSION, "MAIL: 530 5.7.0 log in"),
        ({"RCPT": ["550 5.1.1 nobody"]}, Exit.NO_USER, "<to@example.test>: 550 5.1.1 nobody"),
        ({"RCPT": ["530 5.7.0 log in"]}, Exit.NO_PERMISSION, "<to@example.test>: 530 5.7.0 log in"),
        ({"RCPT": ["450 4.2.1 later"]}, Exit.TEMPORARY, "<to@example.test>: 450 4.2.1 later"),
        ({"RCPT": ["421 4.3.2 bye"]}, Exit.TEMPORARY, "RCPT: 421 4.3.2 bye"),
        ({"DATA": ["451 4.3.0 no"]}, Exit.TEMPORARY, "DATA: 451 4.3.0 no"),
        ({"DOT": ["452 4.3.1 full"]}, Exit.TEMPORARY, "the message: 452 4.3.1 full"),
        ({"DOT": ["554 5.6.0 bad"]}, Exit.DATA, "the message: 554 5.6.0 bad"),
        (
            {"DOT": [CLOSE]},
            Exit.TEMPORARY,
            "the message was sent, but not answered; it may be there: the server has closed the connection",
        ),
    ],
)
async def test_what_goes_wrong_has_a_code_and_a_line(script: Script, exit: Exit, line: str) -> None:
    async with scripted(script) as there:
        result = await handed(draft(), there)
    assert result.exit is exit
    assert [told.removeprefix(str(there.address)) for told in result.lines] == [line]


async def test_who_has_it_and_who_has_not_when_the_server_leaves_between_two_messages() -> None:
    async with scripted(
        {"RCPT": ["250 ok", "452 4.5.3 enough", "550 5.1.1 nobody"], "MAIL": ["250 ok", CLOSE]}
    ) as there:
        result = await handed(draft("a@example.test", "b@example.test", "c@example.test"), there)
    assert result.exit is Exit.TEMPORARY
    assert result.lines == (
        "<c@example.test>: 550 5.1.1 nobody",
        "<b@example.test>: not sent",
        "the server has closed the connection",
        "the other recipients have it: 250 ok",
    )


async def test_what_the_server_does_not_offer_is_not_asked_for() -> None:
    async with scripted({}) as there:
        heard: list[str] = []
        assert (await handed(draft(text="Subject: ö\n\nö\n"), there, heard=heard)).exit is Exit.OK
        assert "C: MAIL FROM:<me@example.test>" in heard
        for one, asked, line in (
            (draft("tö@example.test"), ASKED, "the server takes no addresses that are not ASCII (SMTPUTF8)"),
            (draft(), Asked(requiretls=True), "the server offers no REQUIRETLS in this session"),
            (draft(), Asked(notify=Notify.NEVER), "the server takes no wishes for notices (DSN)"),
        ):
            result = await handed(one, there, asked)
            assert (result.exit, result.lines) == (Exit.UNAVAILABLE, (line,))
