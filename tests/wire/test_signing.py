"""Signatures on mail as a host gets it: every one is verified over the octets that arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from attempt_world import World, in_words, make_claim, world
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from plain_dkim import verify

from relay.delivery.signing import Signing, signing_of
from relay.events import DkimKeyRenewed, Event, FileRefused, MessageUnsigned
from relay.lab.sink import SinkScript
from relay.mail.message import Body, FileBody
from relay.mail.outcome import Deferred
from relay.queue.store import StoreUnavailable
from relay.settings import Settings
from relay.signing.keys import KeyTable

pytestmark = pytest.mark.asyncio

KEYS: dict[str, rsa.RSAPrivateKey | Ed25519PrivateKey] = {
    "r": rsa.generate_private_key(public_exponent=65537, key_size=1024),
    "e": Ed25519PrivateKey.generate(),
}
TEXT = b"From: Me <me@sender.test>\r\nSubject: x\r\n\r\n.one dot\r\n..\r\n"
PASS = [("r", "sender.test", "pass"), ("e", "sender.test", "pass")]
BASE = ("PIPELINING", "8BITMIME", "SIZE 52428800")


def settings(folder: Path) -> Settings:
    tables = []
    for selector, key in KEYS.items():
        path = folder / f"{selector}.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        tables.append({"domain": "sender.test", "selector": selector, "key_file": str(path)})
    return Settings.model_validate({"dkim_key": tables})


def results(message: bytes, keys: KeyTable) -> list[tuple[str, str, str]]:
    return verify(message, {(key.selector, key.domain): key.public for key in keys.all})


@asynccontextmanager
async def signing_world(folder: Path) -> AsyncIterator[tuple[World, Signing]]:
    async with world() as there:
        signing = signing_of(settings(folder), there.events.append, lambda _: True)
        assert signing is not None
        there.tools = replace(there.tools, sign=signing.sign)
        yield there, signing


def counting(there: World) -> list[Body]:
    """The bodies that are read from now on, once for each time."""
    read, seen = there.tools.read, list[Body]()

    async def read_and_note(body: Body) -> AsyncGenerator[bytes, None]:
        seen.append(body)
        async for octets in read(body):
            yield octets

    there.tools = replace(there.tools, read=read_and_note)
    return seen


@pytest.mark.parametrize(
    "extensions", [BASE, BASE[1:], (*BASE[1:], "CHUNKING")], ids=["pipelining", "one by one", "chunks"]
)
@pytest.mark.parametrize("body", [TEXT, TEXT + b"no line end", b"From: me@sender.test\r\n", b"From: me@sender.test"])
async def test_what_arrives_is_what_was_signed(tmp_path: Path, extensions: tuple[str, ...], body: bytes) -> None:
    async with signing_world(tmp_path) as (there, signing):
        (sink,) = await there.domain("a.test", SinkScript(extensions=extensions))
        await there.attempt(make_claim("b@a.test", body=body))
        (mail,) = sink.received
        assert results(mail.octets, signing.signer.keys) == PASS
        told = next(word for word in mail.mail_parameters if word.startswith("SIZE="))
        fields = mail.octets[: mail.octets.index(b"From:")]
        assert told == f"SIZE={len(fields) + len(body)}"
        assert mail.octets.removeprefix(fields).removesuffix(b"\r\n") == body.removesuffix(b"\r\n")


async def test_a_large_message_is_read_twice_and_never_held(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(TEXT + (b". spaces  and\ttabs \r\n" + b"\r\n" * 3) * 12_000)
    async with signing_world(tmp_path) as (there, signing):
        seen = counting(there)
        sinks = await there.domain("a.test", SinkScript(extensions=BASE))
        sinks += await there.domain("b.test", SinkScript(extensions=(*BASE, "CHUNKING")))
        for domain in ("a.test", "b.test"):
            body = FileBody(path, path.stat().st_size)
            await there.attempt(replace(make_claim(f"b@{domain}"), body=body))
        for sink in sinks:
            assert results(sink.received[0].octets, signing.signer.keys) == PASS
            assert sink.received[0].octets.endswith(path.read_bytes())
        assert len(seen) == 4


async def test_the_message_is_signed_as_it_is_after_the_conversion(tmp_path: Path) -> None:
    body = b"From: me@sender.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    body += b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    async with signing_world(tmp_path) as (there, signing):
        sinks = await there.domain("a.test", SinkScript(extensions=("PIPELINING",)))
        sinks += await there.domain("b.test", SinkScript(extensions=BASE))
        for domain in ("a.test", "b.test"):
            await there.attempt(make_claim(f"b@{domain}", body=body, eight_bit=True))
        seven, eight = (sink.received[0].octets for sink in sinks)
        assert seven.isascii()
        assert eight.endswith(body)
        for octets in (seven, eight):
            assert results(octets, signing.signer.keys) == PASS


async def test_signatures_that_are_there_stay(tmp_path: Path) -> None:
    async with signing_world(tmp_path) as (there, signing):
        (sink,) = await there.domain("a.test", SinkScript())
        await there.attempt(make_claim("b@a.test", body=TEXT))
        once = sink.received[0].octets
        await there.attempt(make_claim("b@a.test", body=once))
        assert results(sink.received[1].octets, signing.signer.keys) == PASS * 2
        assert sink.received[1].octets.endswith(once)


async def test_several_transactions_have_one_signature(tmp_path: Path) -> None:
    async with signing_world(tmp_path) as (there, signing):
        seen = counting(there)
        (sink,) = await there.domain("a.test", SinkScript(extensions=(*BASE, "LIMITS RCPTMAX=1")))
        await there.attempt(make_claim("1@a.test", "2@a.test", "3@a.test", body=TEXT))
        assert len({mail.octets for mail in sink.received}) == 1
        assert len(sink.received) == 3
        assert len(seen) == 4
        assert results(sink.received[0].octets, signing.signer.keys) == PASS


async def test_mail_of_others_goes_as_it_is(tmp_path: Path) -> None:
    body = b"From: me@other.test\r\n\r\nHi.\r\n"
    async with signing_world(tmp_path) as (there, _):
        (sink,) = await there.domain("a.test", SinkScript())
        await there.attempt(make_claim("b@a.test", body=body))
        assert sink.received[0].octets == body
        assert there.events == []
        path = tmp_path / "body"
        path.write_bytes(body + b"Hi.\r\n" * 100_000)
        await there.attempt(replace(make_claim("b@a.test"), body=FileBody(path, path.stat().st_size)))
        assert sink.received[1].octets == path.read_bytes()


async def test_without_keys_nothing_is_read_for_signatures() -> None:
    assert signing_of(Settings(), lambda _: None, lambda _: True) is None
    async with world() as there:
        seen = counting(there)
        await there.domain("a.test", SinkScript())
        await there.attempt(make_claim("b@a.test", body=TEXT))
        assert len(seen) == 1


async def test_a_message_that_is_too_large_with_its_signatures(tmp_path: Path) -> None:
    async with signing_world(tmp_path) as (there, _):
        (sink,) = await there.domain("a.test", SinkScript(extensions=(f"SIZE {len(TEXT) + 100}",)))
        (outcome,) = await there.attempt(make_claim("b@a.test", body=TEXT))
        assert in_words(outcome) == "failed 5.3.4 mx1.a.test none"
        assert sink.received == []


async def test_a_message_that_cannot_be_read_to_be_signed_waits(tmp_path: Path) -> None:
    async def read(_: Body) -> AsyncGenerator[bytes, None]:
        yield TEXT
        raise StoreUnavailable("the disk is gone")

    async with signing_world(tmp_path) as (there, _):
        there.tools = replace(there.tools, read=read)
        (sink,) = await there.domain("a.test", SinkScript())
        (outcome,) = await there.attempt(make_claim("b@a.test", body=TEXT))
        assert isinstance(outcome, Deferred)
        assert outcome.reason == "the message could not be read: the disk is gone"
        assert sink.received == []
        assert there.tools.pool._idle == {}


async def test_mail_goes_out_without_the_signature_of_a_key_that_fails(tmp_path: Path) -> None:
    def fail(_: bytes) -> bytes:
        raise ValueError("out of luck")

    async with signing_world(tmp_path) as (there, signing):
        signing.signer.keys = KeyTable([replace(key, sign=fail) for key in signing.signer.keys.all])
        (sink,) = await there.domain("a.test", SinkScript())
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        claim = make_claim("b@a.test", body=TEXT)
        await there.attempt(claim)
        assert sink.received[1].octets == TEXT
        what = "the key r of sender.test could not sign; the key e of sender.test could not sign"
        assert there.events == [MessageUnsigned(str(claim.id), what)]


async def test_a_new_key_counts_at_once_and_a_bad_one_leaves_the_old_in_force(tmp_path: Path) -> None:
    events = list[Event]()
    signing = signing_of(settings(tmp_path), events.append, lambda _: True)
    assert signing is not None
    old = {key.selector: key.public for key in signing.signer.keys.all}
    new = Ed25519PrivateKey.generate()
    (tmp_path / "e.pem").write_bytes(new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "r.pem").write_bytes(b"nonsense")
    hung_up = asyncio.Event()
    renewing = asyncio.create_task(signing.renew(hung_up))
    for _ in range(2):  # what is wrong is told once
        hung_up.set()
        async with asyncio.timeout(10):
            while len(events) < 2 or hung_up.is_set():
                await asyncio.sleep(0.001)
    renewing.cancel()
    await asyncio.wait([renewing])
    what = "does not hold a private key in PEM form (PKCS#8, or RSA's own)"
    assert events == [
        FileRefused(f"the key r of sender.test: {tmp_path}/r.pem {what}"),
        DkimKeyRenewed("sender.test", "e"),
    ]
    assert {key.selector: key.public for key in signing.signer.keys.all} == {
        "r": old["r"],
        "e": new.public_key().public_bytes_raw(),
    }


async def test_a_key_that_cannot_be_used_at_start(tmp_path: Path) -> None:
    given = settings(tmp_path)
    (tmp_path / "e.pem").unlink()
    with pytest.raises(ValueError, match=r"^the key e of sender.test: .*/e.pem cannot be read: No such file"):
        signing_of(given, lambda _: None, lambda _: True)
