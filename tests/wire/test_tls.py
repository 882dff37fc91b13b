"""The contexts against servers of every version, the chain that comes out, and the canaries for private attributes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path

import certifi
import pytest
from cryptography.hazmat.primitives import serialization

from relay.lab.certs import Issued, LabCa, Leaf
from relay.policy.observed import TlsVersion
from relay.tls import (
    ClientContexts,
    https_context,
    load_roots,
    peer_chain,
    server_context,
    shrink_tls_buffers,
    tls_version,
)

CA = LabCa.make(datetime.now(UTC))
CONTEXTS = ClientContexts(CA.pem)
HOST = "mx.good.test"
GOOD = CA.issue([HOST])
ALL = ("opportunistic", "required", "webpki", "webpki_other_name")


def connect(client: ssl.SSLContext, server: ssl.SSLContext, name: str = HOST) -> ssl.SSLSocket:
    """A handshake over a socket pair, with a server that sends its alerts. Raises what the client raised."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        return client.wrap_socket(ours, server_hostname=name)
    finally:
        ours.close()
        thread.join()


VERSIONS = [
    (ssl.TLSVersion.TLSv1, TlsVersion.TLS_1_0),
    (ssl.TLSVersion.TLSv1_1, TlsVersion.TLS_1_1),
    (ssl.TLSVersion.TLSv1_2, TlsVersion.TLS_1_2),
    (ssl.TLSVersion.TLSv1_3, TlsVersion.TLS_1_3),
]


@pytest.mark.parametrize(("newest", "version"), VERSIONS, ids=[str(version) for _, version in VERSIONS])
@pytest.mark.parametrize("which", ALL)
def test_versions(which: str, newest: ssl.TLSVersion, version: TlsVersion) -> None:
    """RFC 8996: TLS that is required is 1.2 or newer; where nothing is required, old TLS is better than none."""
    context, server = getattr(CONTEXTS, which), GOOD.server_context(newest)
    if version >= TlsVersion.TLS_1_2 or which == "opportunistic":
        with connect(context, server) as tls:
            assert tls_version(tls) is version
            assert peer_chain(tls) == GOOD.chain_der
    else:
        with pytest.raises(ssl.SSLError) as caught:
            connect(context, server)
        assert (caught.value.library, caught.value.reason) == ("SSL", "TLSV1_ALERT_PROTOCOL_VERSION")


@pytest.mark.parametrize("kind", Leaf, ids=[kind.name for kind in Leaf])
@pytest.mark.parametrize("which", ["opportunistic", "required"])
def test_any_certificate_will_do_where_none_is_verified(which: str, kind: Leaf) -> None:
    issued = CA.issue(["other.test"], kind)
    with connect(getattr(CONTEXTS, which), issued.server_context()) as tls:
        assert peer_chain(tls) == issued.chain_der


@pytest.mark.parametrize(
    ("context", "refused"),
    [(CONTEXTS.webpki, True), (CONTEXTS.webpki_other_name, False), (https_context(CA.pem), True)],
)
def test_names_are_checked_where_they_should_be(context: ssl.SSLContext, refused: bool) -> None:
    server = CA.issue(["other.test"]).server_context()
    if refused:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            connect(context, server)
        assert caught.value.verify_code == 62
    else:
        connect(context, server).close()


@pytest.mark.parametrize("context", [CONTEXTS.webpki, CONTEXTS.webpki_other_name, https_context(CA.pem)])
def test_verifying_contexts_fail_closed(context: ssl.SSLContext) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(context, CA.issue([HOST], Leaf.SELF_SIGNED).server_context())


@pytest.mark.parametrize(
    ("context", "level"),
    [
        (CONTEXTS.opportunistic, 0),
        (CONTEXTS.required, 1),
        (CONTEXTS.webpki, 2),
        (CONTEXTS.webpki_other_name, 2),
        (https_context(CA.pem), 2),
    ],
)
def test_every_context_says_what_it_wants(context: ssl.SSLContext, level: int) -> None:
    assert context.security_level == level
    assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST  # neither strict nor partial chain
    assert not context.hostname_checks_common_name
    assert context.options & ssl.OP_NO_COMPRESSION
    assert not any(cipher["auth"] == "auth-null" for cipher in context.get_ciphers())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    GOOD.write(tmp_path)
    return tmp_path


def test_submission(folder: Path) -> None:
    context = server_context(folder / "chain.pem", folder / "key.pem")
    with connect(CONTEXTS.webpki, context) as tls:
        assert tls_version(tls) is TlsVersion.TLS_1_3
        assert peer_chain(tls) == GOOD.chain_der
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.security_level == 2


def test_submission_refuses_old_tls(folder: Path) -> None:
    context = server_context(folder / "chain.pem", folder / "key.pem")
    client = ClientContexts(CA.pem).opportunistic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for naming TLS 1.1
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError) as caught:
        connect(client, context)
    assert caught.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def other_key(folder: Path) -> None:
    (folder / "key.pem").write_bytes(CA.issue([HOST]).key_pem)


def rsa_key(folder: Path) -> None:
    (folder / "key.pem").write_bytes(CA.issue([HOST], Leaf.RSA_2048).key_pem)


def encrypted_key(folder: Path) -> None:
    key = serialization.load_pem_private_key(GOOD.key_pem, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (folder / "key.pem").write_bytes(encrypted)


def old_encrypted_key(folder: Path) -> None:
    key = serialization.load_pem_private_key(GOOD.key_pem, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (folder / "key.pem").write_bytes(encrypted)


def no_key(folder: Path) -> None:
    (folder / "key.pem").unlink()


def no_certificate(folder: Path) -> None:
    (folder / "chain.pem").unlink()


def a_folder_for_a_key(folder: Path) -> None:
    (folder / "key.pem").unlink()
    (folder / "key.pem").mkdir()


def swapped(folder: Path) -> None:
    (folder / "chain.pem").write_bytes(GOOD.key_pem)


def der(folder: Path) -> None:
    (folder / "chain.pem").write_bytes(GOOD.chain_der[0])


def certificate_for_a_key(folder: Path) -> None:
    (folder / "key.pem").write_bytes(GOOD.chain_pem)


def broken_certificate(folder: Path) -> None:
    (folder / "chain.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def weak_key(folder: Path) -> None:
    CA.issue([HOST], Leaf.RSA_1024).write(folder)


def weak_signature(folder: Path) -> None:
    CA.issue([HOST], Leaf.SHA1).write(folder)


@pytest.mark.parametrize(
    ("spoil", "file", "why"),
    [
        (other_key, "key.pem", "is not the key of the certificate in"),
        (rsa_key, "key.pem", "is not the key of the certificate in"),
        (encrypted_key, "key.pem", "the private key is encrypted"),
        (old_encrypted_key, "key.pem", "the private key is encrypted"),
        (no_key, "key.pem", "cannot be read: No such file or directory"),
        (no_certificate, "chain.pem", "cannot be read: No such file or directory"),
        (a_folder_for_a_key, "key.pem", "cannot be read: Is a directory"),
        (swapped, "chain.pem", "no certificate in PEM form in it"),
        (der, "chain.pem", "no certificate in PEM form in it"),
        (certificate_for_a_key, "key.pem", "no private key in PEM form in it"),
        (broken_certificate, "chain.pem", "cannot be used"),
        (weak_key, "chain.pem", "has too short a key"),
        (weak_signature, "chain.pem", "too weak a signature"),
    ],
)
def test_what_is_wrong_with_the_submission_certificate(folder: Path, spoil: object, file: str, why: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ValueError, match=why) as caught:
        server_context(folder / "chain.pem", folder / "key.pem")
    assert str(caught.value).startswith(str(folder / file))
    assert "\n" not in str(caught.value)


@pytest.fixture
def no_system_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system whose trust store is an empty folder, which the test may fill."""
    store = tmp_path / "store"
    store.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(store / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(store))
    return store


def count(pem: bytes) -> int:
    return pem.count(b"-----BEGIN CERTIFICATE-----")


def test_certifi_stands_in_when_the_system_has_no_authorities(no_system_roots: Path) -> None:
    assert count(load_roots(None)) == certifi.contents().count("-----BEGIN CERTIFICATE-----")


def test_the_systems_authorities_are_used_and_nothing_else(no_system_roots: Path) -> None:
    (no_system_roots / "bundle.pem").write_bytes(b"# ours\n" + CA.pem + CA.pem)
    stranger = LabCa.make(datetime.now(UTC))
    (no_system_roots / "0123abcd.0").write_bytes(stranger.pem)
    (no_system_roots / "not-hashed.pem").write_bytes(LabCa.make(datetime.now(UTC)).pem)
    (no_system_roots / "89abcdef.0").symlink_to(no_system_roots / "gone")
    (no_system_roots / "89abcdef.1").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    roots = load_roots(None)
    assert count(roots) == 2
    assert CA.pem.strip() in roots
    assert stranger.pem.strip() in roots
    connect(ClientContexts(roots).webpki, GOOD.server_context()).close()


def test_a_file_of_authorities_comes_on_top(no_system_roots: Path, tmp_path: Path) -> None:
    (no_system_roots / "bundle.pem").write_bytes(LabCa.make(datetime.now(UTC)).pem)
    file = tmp_path / "ca.pem"
    file.write_bytes(CA.pem.replace(b"\n", b"\r\n"))
    roots = load_roots(file)
    assert count(roots) == 2
    connect(ClientContexts(roots).webpki, GOOD.server_context()).close()


def test_the_real_systems_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("SSL_CERT_DIR")
    assert count(load_roots(None)) > 50
    assert ClientContexts(load_roots(None)).webpki.cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no certificate in PEM form in it"),
        (GOOD.key_pem, "no certificate in PEM form in it"),
        (CA.der, "no certificate in PEM form in it"),
        (CA.pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 2 in it is broken"),
        (b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n", "certificate 1 in it is broken"),
    ],
)
def test_what_is_wrong_with_the_file_of_authorities(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=why) as caught:
        load_roots(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_a_file_of_authorities_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "ca.pem")):
        load_roots(tmp_path / "ca.pem")


async def asyncio_session(issued: Issued) -> tuple[asyncio.StreamWriter, asyncio.Server]:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=issued.server_context())
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=CONTEXTS.required, server_hostname=HOST)
    return writer, server


@pytest.mark.usefixtures("asyncio_buffers")
def test_canary_the_tls_buffers_of_asyncio_shrink() -> None:
    """`SSLProtocol.max_size` is private: this fails when an upgrade takes it away or its effect. Not on uvloop."""

    async def size() -> int:
        writer, server = await asyncio_session(GOOD)
        protocol = writer.transport._ssl_protocol  # type: ignore[attr-defined]
        found = len(protocol._ssl_buffer)
        writer.close()
        await writer.wait_closed()
        server.close()
        return found

    assert asyncio.run(size()) == 256 * 1024
    shrink_tls_buffers()
    assert asyncio.run(size()) == 16 * 1024 + 256


@pytest.mark.asyncio
async def test_canary_the_chain_can_be_read_on_this_python() -> None:
    """Before 3.13 it takes a private call: this fails when an upgrade takes it away."""
    for kind in (Leaf.GOOD, Leaf.SELF_SIGNED, Leaf.PATH_TOO_LONG):
        issued = CA.issue([HOST], kind)
        writer, server = await asyncio_session(issued)
        tls = writer.get_extra_info("ssl_object")
        assert peer_chain(tls) == issued.chain_der
        assert tls_version(tls) is TlsVersion.TLS_1_3
        if sys.version_info < (3, 13):
            assert callable(tls._sslobj.get_unverified_chain)
        writer.close()
        await writer.wait_closed()
        server.close()


def test_before_the_handshake_there_is_neither_chain_nor_version() -> None:
    tls = CONTEXTS.required.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
    assert peer_chain(tls) == ()
    with pytest.raises(KeyError):
        tls_version(tls)
