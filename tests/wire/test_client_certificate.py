"""Certificates of clients: who is asked, whose counts, what it opens, and as whom EXTERNAL logs in."""

from __future__ import annotations

import base64
import contextlib
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier
from submission_peer import HOSTNAME, LOOPBACK, Client, Running, Wanted, client_tls, running

from relay.events import AuthenticationFailed, DefectFound, MessageAccepted, SubmissionRefused
from relay.lab.certs import Issued, LabCa, Leaf
from relay.settings import ClientSettings, ListenerSettings, ListenerTls
from relay.submission.certificate import Certificate
from relay.submission.users import Users
from relay.tls import ServerContexts, server_contexts

pytestmark = pytest.mark.asyncio

CA = LabCa.make(datetime.now(UTC))
RELAY = CA.issue((HOSTNAME,))
GOOD = CA.issue(("exchange.example.test", "Postmaster@Example.test", "other@example.test"), Leaf.CLIENT_EKU)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> ServerContexts:
    folder = tmp_path_factory.mktemp("relay")
    ca = folder / "ca.pem"
    ca.write_bytes(CA.pem)
    return server_contexts(*RELAY.write(folder), ca)


def wanted(contexts: ServerContexts, **tables: Any) -> Wanted:
    """STARTTLS on one listener, TLS from the start on another."""
    settings = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,), "max_failed_logins": 100}
    return Wanted(settings, tables, contexts.silent, asking=contexts.asking, loopback_trusted=False)


def showing(issued: Issued | None, folder: Path, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = client_tls()
    context.maximum_version = maximum
    if issued is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(*issued.write(folder / "client"))
    return context


async def may_send(client: Client) -> bool:
    await client.ask("MAIL FROM:<alice@example.test>")
    answer = await client.ask("RCPT TO:<victim@example.org>")
    await client.ask("RSET")
    return answer.startswith("250 ")


async def secure(server: Running, context: ssl.SSLContext, implicit: bool) -> Client:
    if implicit:
        return await server.connect(1, tls=context)
    client = await server.connect(0)
    await client.start_tls(context)
    return client


EXCHANGE = ClientSettings(name="exchange", certificates=("exchange.example.test",))
LOGGED_IN = ClientSettings(name="logged-in", certificates=("*",), users=("*",))


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
async def test_a_certificate_opens_without_auth(implicit: bool, contexts: ServerContexts, tmp_path: Path) -> None:
    given = wanted(contexts, client=(EXCHANGE,))
    async with running(tmp_path, given) as server:
        async with await secure(server, showing(GOOD, tmp_path), implicit) as client:
            await client.hello()
            assert await may_send(client)
            assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
            (message,) = await server.stored()
            assert b"\twith ESMTPS (TLSv1.3 " in message.trace  # no A: it has not logged in
        async with await secure(server, showing(None, tmp_path), implicit) as client:
            assert "EXTERNAL" not in await client.hello()
            assert not await may_send(client)


async def test_what_was_shown_before_another_tls_session_is_forgotten(contexts: ServerContexts, tmp_path: Path) -> None:
    """Each connection shows its own, and clear text none."""
    async with running(tmp_path, wanted(contexts, client=(EXCHANGE,))) as server, await server.connect() as client:
        await client.hello()
        assert not await may_send(client)
        await client.start_tls(showing(GOOD, tmp_path))
        await client.hello()
        assert await may_send(client)
        async with await server.connect() as other:
            await other.hello()
            assert not await may_send(other)


# What breaks the handshake, and what does not. TLS 1.3 tells the client late, 1.2 at once.
LEAVES = [
    (Leaf.CLIENT_EKU, True),
    (Leaf.NO_EKU, True),
    (Leaf.GOOD, False),  # for servers only
    (Leaf.ANY_EKU, False),  # OpenSSL does not take it for one that names clients
    (Leaf.EXPIRED, False),
    (Leaf.NOT_YET_VALID, False),
    (Leaf.SELF_SIGNED, False),
    (Leaf.UNKNOWN_CA, False),
    (Leaf.FORGED, False),
    (Leaf.MISSING_INTERMEDIATE, False),
    (Leaf.SIGNING_ONLY, False),
    (Leaf.UNKNOWN_CRITICAL, False),
    (Leaf.RSA_1024, False),
]


@pytest.mark.parametrize(("kind", "good"), LEAVES, ids=[kind.name for kind, _ in LEAVES])
async def test_whose_certificate_counts(kind: Leaf, good: bool, contexts: ServerContexts, tmp_path: Path) -> None:
    issued = CA.issue(("exchange.example.test",), kind)
    async with running(tmp_path, wanted(contexts, client=(EXCHANGE,))) as server:
        opened = False
        try:
            async with await server.connect(1, tls=showing(issued, tmp_path), greeted=False) as client:
                if await client.reply():
                    await client.hello()
                    opened = await may_send(client)
        except OSError:
            pass
        assert opened is good
        if not good:
            refusal = await server.event(SubmissionRefused)
            assert isinstance(refusal, SubmissionRefused)
            assert refusal.about.startswith("TLS handshake failed: the client's certificate is not good: ")


async def test_a_listener_that_does_not_ask(contexts: ServerContexts, tmp_path: Path) -> None:
    """For clients that show whatever they have."""
    quiet = ListenerSettings(name="quiet", listen=(LOOPBACK,), tls=ListenerTls.IMPLICIT, ask_certificate=False)
    given = wanted(contexts, client=(EXCHANGE,), listener=(quiet,))
    for issued in (GOOD, CA.issue(("exchange.example.test",), Leaf.UNKNOWN_CA)):
        context = showing(issued, tmp_path)
        async with running(tmp_path, given) as server, await server.connect(2, tls=context) as client:
            await client.hello()
            assert not await may_send(client)


# EXTERNAL

EXTERNALS = [
    (GOOD, "", "postmaster@example.test"),  # the first mail address, whatever is in front of it
    (GOOD, "other@example.test", "other@example.test"),
    (GOOD, "OTHER@example.test", "other@example.test"),
    (GOOD, "exchange.example.test", "exchange.example.test"),
    (GOOD, "boss@example.test", None),
    (GOOD, "xchange.example.test", None),
    (CA.issue(("host.example.test",), Leaf.CLIENT_EKU), "", "host.example.test"),
    (CA.issue((), Leaf.CLIENT_EKU), "", "nameless"),  # no subjectAltName: the common name
    (CA.issue(("192.0.2.1",), Leaf.CLIENT_EKU), "", "192.0.2.1"),  # an address is no name, its common name is
    (CA.issue(("host.example.test",), Leaf.CLIENT_EKU), "nameless", None),
]


async def test_a_certificate_that_no_table_asks_for_is_no_login(contexts: ServerContexts, tmp_path: Path) -> None:
    """The authority may be one of the web's: it says who somebody is, not that they may send."""
    elsewhere = ClientSettings(name="elsewhere", certificates=("host.example.test",), listeners=("gateway",))
    gateway = ListenerSettings(name="gateway", listen=(LOOPBACK,), tls=ListenerTls.IMPLICIT)
    context = showing(CA.issue(("host.example.test", "somebody@example.test"), Leaf.CLIENT_EKU), tmp_path)
    cases: list[tuple[dict[str, Any], int, bool]] = [
        ({}, 1, False),
        ({"client": (EXCHANGE,)}, 1, False),
        ({"client": (elsewhere,), "listener": (gateway,)}, 1, False),
        ({"client": (elsewhere,), "listener": (gateway,)}, 2, True),
    ]
    for case, (tables, number, offered) in enumerate(cases):
        async with (
            running(tmp_path / str(case), wanted(contexts, **tables)) as server,
            await server.connect(number, tls=context) as client,
        ):
            assert ("EXTERNAL" in await client.hello()) is offered
            somebody = base64.b64encode(b"somebody@example.test").decode()
            assert (await client.ask(f"AUTH EXTERNAL {somebody}"))[:3] == ("535" if offered else "504")
            assert (await client.ask("AUTH EXTERNAL ="))[:3] == ("235" if offered else "504")
            assert await may_send(client) is offered


@pytest.mark.parametrize(("issued", "wanted_name", "login"), EXTERNALS)
async def test_external(
    issued: Issued, wanted_name: str, login: str | None, contexts: ServerContexts, tmp_path: Path
) -> None:
    initial = base64.b64encode(wanted_name.encode()).decode() or "="
    given = wanted(contexts, client=(LOGGED_IN,))
    async with running(tmp_path, given) as server, await server.connect(1, tls=showing(issued, tmp_path)) as client:
        assert "AUTH EXTERNAL" in await client.hello()
        answer = await client.ask(f"AUTH EXTERNAL {initial}")
        assert answer[:3] == ("535" if login is None else "235")
        if login is None:
            failed = await server.event(AuthenticationFailed)
            assert isinstance(failed, AuthenticationFailed)
            assert (failed.login, failed.mechanism) == (wanted_name, "EXTERNAL")
            assert not await may_send(client)
        else:
            assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
            accepted = await server.event(MessageAccepted)
            assert isinstance(accepted, MessageAccepted)
            assert accepted.login == login


async def test_external_asked(contexts: ServerContexts, tmp_path: Path) -> None:
    context = showing(GOOD, tmp_path, ssl.TLSVersion.TLSv1_2)
    async with (
        running(tmp_path, wanted(contexts, client=(LOGGED_IN,))) as server,
        await server.connect(1, tls=context) as client,
    ):
        await client.hello()
        assert await client.ask("AUTH EXTERNAL") == "334 "
        assert (await client.ask("")).startswith("235 ")


async def test_external_without_a_certificate(contexts: ServerContexts, tmp_path: Path) -> None:
    context = showing(None, tmp_path)
    async with (
        running(tmp_path, wanted(contexts, client=(LOGGED_IN,))) as server,
        await server.connect(1, tls=context) as client,
    ):
        assert "AUTH" not in await client.hello()
        assert (await client.ask("AUTH EXTERNAL =")).startswith("504 ")


async def test_a_certificate_and_a_password(contexts: ServerContexts, tmp_path: Path) -> None:
    """Who logs in with a password is that user, whatever its certificate says."""
    users = tmp_path / "users"
    users.write_text(f"alice:{argon2.PasswordHasher(1, 8, 1).hash('secret')}\n")
    given = wanted(contexts, client=(LOGGED_IN,))
    given = replace(given, users=Users.load(users))
    async with running(tmp_path, given) as server, await server.connect(1, tls=showing(GOOD, tmp_path)) as client:
        assert "AUTH PLAIN LOGIN EXTERNAL" in await client.hello()
        assert not await may_send(client)
        assert (await client.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==")).startswith("235 ")
        assert await may_send(client)


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
async def test_a_certificate_with_a_name_that_is_no_text(
    implicit: bool, contexts: ServerContexts, tmp_path: Path
) -> None:
    """An authority may sign what Python cannot read: that is no defect, and the client's place is free again."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "exchange.example.test")])
    alternative = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.17"), b"\x30\x04\x81\x02\xff\xfe")
    signed = (
        x509.CertificateBuilder(CA.root.certificate.subject, name, key.public_key(), 1)
        .not_valid_before(CA.now - timedelta(days=1))
        .not_valid_after(CA.now + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(CA.root.key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context = showing(Issued(signed.public_bytes(Encoding.PEM), pem, ()), tmp_path)
    given = wanted(contexts, client=(EXCHANGE,))
    async with running(tmp_path, replace(given, settings={**given.settings, "max_connections": 1})) as server:
        for _ in range(3):
            with contextlib.suppress(OSError):
                tls = context if implicit else None
                async with await server.connect(int(implicit), tls=tls, greeted=not implicit) as client:
                    if not implicit:
                        await client.start_tls(context)
                    assert await client.closed()
        refusal = await server.event(SubmissionRefused)
        assert isinstance(refusal, SubmissionRefused)
        assert refusal.about == "TLS handshake failed: the client's certificate cannot be read"
        assert server.count(DefectFound) == 0
        async with await secure(server, showing(GOOD, tmp_path / "good"), implicit) as client:
            await client.hello()
            assert await may_send(client)


# The file of authorities


async def test_the_authorities_are_read_again_when_they_change(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA.pem)
    certificate = Certificate(*RELAY.write(tmp_path), ca)
    first = certificate.contexts
    assert certificate.refresh() is None
    assert certificate.contexts is first
    ca.write_bytes(LabCa.make(datetime.now(UTC)).pem)
    assert certificate.refresh() is None
    second = certificate.contexts
    assert second is not first
    async with running(tmp_path, wanted(second, client=(EXCHANGE,))) as server:
        with pytest.raises(OSError):
            async with await server.connect(1, tls=showing(GOOD, tmp_path, ssl.TLSVersion.TLSv1_2)):
                pass
    ca.write_text("nothing")
    assert certificate.refresh() == f"{ca}: no certificate in PEM form in it"
    assert certificate.refresh() is None
    ca.unlink()
    assert certificate.refresh() == f"{ca}: cannot be read: No such file or directory"
    assert certificate.contexts is second
