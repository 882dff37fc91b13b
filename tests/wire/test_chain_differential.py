"""Two ways to verify, one answer: OpenSSL in a real handshake, and `policy.chain` on the chain that was sent.

They are different copies of OpenSSL (Python's and that of the cryptography wheel), and half of the rules is ours.
"""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime

import pytest

from relay.lab.certs import LabCa, Leaf
from relay.policy.chain import Roots, Trust, check_chain, name_fault
from relay.tls import ClientContexts, https_context, peer_chain

NOW = datetime.now(UTC)  # OpenSSL goes by the real time in a handshake
CA = LabCa.make(NOW)
TRUST = Trust(Roots(CA.pem), NOW)
CONTEXTS = ClientContexts(CA.pem)
HTTPS = https_context(CA.pem)
HOST = "mx.good.test"

SOUND = {
    Leaf.GOOD,
    Leaf.NO_EKU,
    Leaf.RSA_2048,
    Leaf.NO_AKI,
    Leaf.EMPTY_SUBJECT,
    Leaf.BARE_INTERMEDIATE,
    Leaf.FROM_ROOT,
    Leaf.ROOT_INCLUDED,
}

# With TLS 1.2 an OpenSSL server does not even present a key that may not do TLS.
KINDS_AND_VERSIONS = [(kind, ssl.TLSVersion.TLSv1_3) for kind in Leaf] + [
    (kind, ssl.TLSVersion.TLSv1_2) for kind in Leaf if kind is not Leaf.SIGNING_ONLY
]


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """A whole handshake in memory. Raises what the client raised."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        try:
            ours.do_handshake()
            return ours
        except ssl.SSLWantReadError:
            pass
        with contextlib.suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
    raise AssertionError("the handshake does not end")


def in_handshake(context: ssl.SSLContext, server: ssl.SSLContext, name: str) -> int | None:
    try:
        shake_hands(context, server, name)
    except ssl.SSLCertVerificationError as error:
        return error.verify_code
    return None


def afterwards(server: ssl.SSLContext, name: str) -> int | None:
    chain = peer_chain(shake_hands(CONTEXTS.opportunistic, server, name))
    fault = check_chain(chain, TRUST) or name_fault(chain[0], name)
    return fault.code if fault is not None else None


@pytest.mark.parametrize(("kind", "newest"), KINDS_AND_VERSIONS)
def test_each_kind(kind: Leaf, newest: ssl.TLSVersion) -> None:
    server = CA.issue([HOST], kind).server_context(newest)
    verified = in_handshake(CONTEXTS.webpki, server, HOST)
    assert (verified is None) is (kind in SOUND)
    assert afterwards(server, HOST) == verified
    assert in_handshake(HTTPS, server, HOST) == verified
    on_another_name = in_handshake(CONTEXTS.webpki_other_name, server, "another.test")
    assert on_another_name == (None if verified == 62 else verified)


@pytest.mark.parametrize(
    ("names", "name", "good"),
    [
        ((HOST,), HOST, True),
        (("MX.Good.Test",), HOST, True),
        (("other.test", HOST), HOST, True),
        (("other.test",), HOST, False),
        (("good.test",), HOST, False),
        (("*.good.test",), HOST, True),
        (("*.good.test",), "good.test", False),
        (("*.good.test",), "a.mx.good.test", False),
        (("*.good.test",), "xn--bcher-kva.good.test", True),
        (("*.good.test",), "mx_1.good.test", False),
        (("mx_1.good.test",), "mx_1.good.test", True),
        (("m*.good.test",), HOST, False),
        (("*x.good.test",), HOST, False),
        (("mx.*.test",), HOST, False),
        (("*.*.test",), HOST, False),
        (("*.test",), "good.test", False),
        (("*",), "mx", False),
        (("mx.good.test.",), HOST, False),
        (("xn--bcher-kva.test",), "xn--bcher-kva.test", True),
    ],
)
def test_each_name(names: tuple[str, ...], name: str, good: bool) -> None:
    server = CA.issue(names).server_context()
    verified = in_handshake(CONTEXTS.webpki, server, name)
    assert verified == (None if good else 62)
    assert afterwards(server, name) == verified


def test_certificates_without_names() -> None:
    server = CA.issue([]).server_context()
    assert in_handshake(CONTEXTS.webpki, server, HOST) == 62
    assert afterwards(server, HOST) == 62


def test_a_stranger_who_sends_his_root() -> None:
    server = LabCa.make(NOW).issue([HOST], Leaf.ROOT_INCLUDED).server_context()
    assert in_handshake(CONTEXTS.webpki, server, HOST) == 19
    assert afterwards(server, HOST) == 19


def test_a_trusted_intermediate_is_no_root() -> None:
    issued = CA.issue([HOST])
    pem = ssl.DER_cert_to_PEM_cert(issued.chain_der[1]).encode()
    server = issued.server_context()
    verified = in_handshake(ClientContexts(pem).webpki, server, HOST)
    fault = check_chain(issued.chain_der, Trust(Roots(pem), NOW))
    assert verified == 2
    assert fault is not None
    assert fault.code == 2
