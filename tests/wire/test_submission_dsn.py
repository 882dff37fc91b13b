"""What the client asks for in delivery reports comes into the queue. RFC 3461."""

from __future__ import annotations

from pathlib import Path

import pytest
from submission_peer import Wanted, client_tls, lab_tls, running

from relay.mail.message import MessageDsn, Notify, RecipientDsn, Ret
from relay.submission.users import Users
from relay.submission.users_file import add_user

pytestmark = pytest.mark.asyncio


async def test_it_is_kept_for_each_recipient(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        assert "250-DSN" in await client.hello()
        for line, answer in (
            ("MAIL FROM:<a@example.test> ret=full envid=QQ+3D1", "250 2.1.0 "),
            ("RCPT TO:<b@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bb@example.test", "250 2.1.5 "),
            ("RCPT TO:<c@example.test>", "250 2.1.5 "),
            ("RCPT TO:<d@example.test> NOTIFY=NEVER", "250 2.1.5 "),
            ("RCPT TO:<e@example.test> NOTIFY=NEVER,DELAY", "501 5.5.4 NOTIFY takes NEVER, or "),
            ("RCPT TO:<b@example.test> NOTIFY=FAILURE", "250 2.1.5 "),
            ("DATA", "354 "),
            ("x\r\n.", "250 2.0.0 "),
        ):
            assert (await client.ask(line)).startswith(answer), line
        (message,) = await server.stored()
        (claim,) = message.claims
        assert claim.dsn == MessageDsn(Ret.FULL, "QQ+3D1")
        assert [(one.address.local, one.dsn) for one in claim.recipients] == [
            ("b", RecipientDsn(Notify.SUCCESS | Notify.DELAY | Notify.FAILURE, "rfc822;old+2Bb@example.test")),
            ("c", RecipientDsn()),
            ("d", RecipientDsn(Notify.NEVER)),
        ]


async def test_rset_forgets_it(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        await client.ask("MAIL FROM:<a@example.test> RET=FULL ENVID=x")
        await client.ask("RCPT TO:<b@example.test> NOTIFY=NEVER")
        await client.ask("RSET")
        await client.deliver(b"x\r\n.\r\n", "b@example.test")
        (message,) = await server.stored()
        assert message.claim.dsn == MessageDsn()
        assert message.claim.recipients[0].dsn == RecipientDsn()
        assert message.claim.login is None


async def test_the_login_is_kept(tmp_path: Path) -> None:
    add_user(tmp_path / "users", "alice", "secret", rounds=4096)
    wanted = Wanted(tls=lab_tls(), users=Users.load(tmp_path / "users"))
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await client.hello()
        await client.start_tls(client_tls())
        await client.hello()
        assert (await client.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==")).startswith("235 ")
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
        (message,) = await server.stored()
        assert message.claim.login == "alice"
