"""Made the chains in tests/data/certificates, once: fuzzing with a seed needs the same octets each time.

They are good (or bad) at `AT`, which is the time that the targets go by. usage: python tests/fuzz/make_certificates.py
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from relay.lab.certs import LabCa, Leaf

AT = datetime(2026, 11, 24, tzinfo=UTC)
NAMES = ("mx.good.test", "*.good.test", "192.0.2.1")
KINDS = (
    Leaf.GOOD, Leaf.FROM_ROOT, Leaf.ROOT_INCLUDED, Leaf.SELF_SIGNED, Leaf.CN_ONLY, Leaf.IP_ONLY, Leaf.EMPTY_SUBJECT,
    Leaf.NO_EKU, Leaf.CLIENT_EKU, Leaf.ANY_EKU, Leaf.SIGNING_ONLY, Leaf.UNKNOWN_CRITICAL, Leaf.RSA_2048, Leaf.SHA1,
    Leaf.BARE_INTERMEDIATE, Leaf.NAME_CONSTRAINT, Leaf.EXPIRED,
)  # fmt: skip
FOLDER = Path(__file__).parents[1] / "data" / "certificates"


def odd_names() -> x509.SubjectAlternativeName:
    """One name of every kind."""
    directory = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "B\u00fccher")])
    return x509.SubjectAlternativeName(
        [
            x509.DNSName("MX.Odd.test"),
            x509.RFC822Name("a@odd.test"),
            x509.UniformResourceIdentifier("https://odd.test/"),
            x509.DirectoryName(directory),
            x509.RegisteredID(ObjectIdentifier("1.2.3.4")),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
            x509.OtherName(ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x0c\x03a@b"),
            x509.DNSName("xn--bcher-kva.odd.test"),
        ]
    )


def odd_certificates() -> list[x509.Certificate]:
    """Keys and signatures that the lab's authority does not use."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.COMMON_NAME, "first.test"),
            x509.NameAttribute(NameOID.COMMON_NAME, "B\u00fccher.test"),
        ]
    )
    edwards, rivest = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)

    def builder(key: ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> x509.CertificateBuilder:
        until = AT.replace(year=2056)
        return x509.CertificateBuilder(subject, subject, key, 7, AT, until).add_extension(odd_names(), critical=False)

    digest = hashes.SHA256()
    scheme = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    return [
        builder(edwards.public_key()).sign(edwards, None),
        builder(rivest.public_key()).sign(rivest, digest, rsa_padding=scheme),
    ]


def main() -> None:
    ca = LabCa.make(AT)
    (FOLDER / "root.pem").write_bytes(ca.pem)
    for kind in KINDS:
        (FOLDER / f"{kind.name.lower()}.pem").write_bytes(ca.issue(NAMES, kind).chain_pem)
    pem = [one.public_bytes(serialization.Encoding.PEM) for one in odd_certificates()]
    (FOLDER / "odd.pem").write_bytes(b"".join(pem))


if __name__ == "__main__":
    main()
