"""Certificates: what is read out of one, held against the cryptography library; and whether a broken chain is believed.

A changed certificate keeps its signature, so a chain may be believed only when nothing that was signed has changed.
"""

from __future__ import annotations

import hashlib
import warnings
from base64 import b64decode
from collections.abc import Callable
from zlib import crc32

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from make_certificates import AT, FOLDER
from mutation import by_elements, by_octets
from target import Target

from relay.policy.certificate import (
    CertificateSyntaxError,
    Signature,
    common_name,
    dns_names,
    is_certificate,
    is_for_servers,
    is_public_key,
    is_strongly_signed,
    issuer,
    key_may_do_tls,
    public_key,
    signature,
    subject,
)
from relay.policy.chain import Roots, Trust, check_chain, name_fault, name_matches
from relay.policy.tlsa import TlsaRecord, UsableTlsa, matching_record

_END = "-----END CERTIFICATE-----"
_SERVER_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH,
    ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    ObjectIdentifier("2.16.840.1.113730.4.1"),
}


def _chain(kind: str) -> tuple[bytes, ...]:
    text = (FOLDER / f"{kind}.pem").read_text()
    blocks = ["".join(block.split("\n")[1:]) for block in text.strip().removesuffix(_END).split(f"{_END}\n")]
    return tuple(b64decode(block) for block in blocks)


CHAINS = {path.stem: _chain(path.stem) for path in sorted(FOLDER.glob("*.pem"))}
ROOT = CHAINS.pop("root")[0]
_TRUST = Trust(Roots((FOLDER / "root.pem").read_bytes()), AT)
NAME = "mx.good.test"

_READERS: tuple[Callable[[bytes], object], ...] = (
    public_key, issuer, subject, dns_names, common_name, is_for_servers, key_may_do_tls, is_strongly_signed, signature
)  # fmt: skip
_REFUSED = object()


def _read(reader: Callable[[bytes], object], octets: bytes) -> object:
    try:
        return reader(octets)
    except CertificateSyntaxError as error:
        assert str(error).isprintable()
        return _REFUSED


def _check_certificate(octets: bytes) -> bool:
    read = {reader: _read(reader, octets) for reader in _READERS}
    key = read[public_key]
    assert is_certificate(octets) is (isinstance(key, bytes) and is_public_key(key))
    name_fault(octets, NAME)
    known = known_certificate(octets)
    if known is None:
        return False
    ours = read[signature]
    if isinstance(ours, Signature):  # ours does not take one with bits left over
        assert (ours.signed, ours.value) == (known.tbs_certificate_bytes, known.signature)
    assert read[issuer] != _REFUSED and read[subject] != _REFUSED and read[public_key] != _REFUSED
    _check_extensions(known, read)
    return True


def known_certificate(octets: bytes) -> x509.Certificate | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says of some certificates that it will not take them for ever
        try:
            return x509.load_der_x509_certificate(octets)
        except (ValueError, x509.InvalidVersion):
            return None


def _check_extensions(known: x509.Certificate, read: dict[Callable[[bytes], object], object]) -> None:
    """What the library finds in the extensions, where it takes all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            extensions = known.extensions
        except Exception:  # noqa: BLE001  (the library has a dozen ways to say no)
            return
    names: tuple[str, ...] = ()
    for_servers = may_do_tls = True
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as found:
                # The library takes UTF-8, which has no place there; for us it is octets, and none turns into ASCII.
                texts = (name.encode().decode("latin-1") for name in found.get_values_for_type(x509.DNSName))
                names = tuple(name.lower() for name in texts)
            case x509.ExtendedKeyUsage() as purposes:
                for_servers = any(purpose in _SERVER_PURPOSES for purpose in purposes)
            case x509.KeyUsage() as usage:
                may_do_tls = usage.digital_signature or usage.key_encipherment or usage.key_agreement
            case _:
                pass
    assert read[dns_names] == names, f"{read[dns_names]!r} instead of {names!r}"
    assert read[is_for_servers] is for_servers
    assert read[key_may_do_tls] is may_do_tls


_CHOICES = tuple((kind, at) for kind, chain in CHAINS.items() for at in range(min(2, len(chain))) if kind != "odd")
_ISSUED = {signature(one).signed for chain in CHAINS.values() for one in chain}
_GOOD = {
    signature(one).signed for chain in CHAINS.values() if check_chain(chain, _TRUST) is None for one in chain
}  # fmt: skip


def _check_chain(octets: bytes) -> bool:
    """The first octet chooses a chain and which of its certificates to put the others in place of."""
    if not octets:
        return False
    kind, at = _CHOICES[octets[0] % len(_CHOICES)]
    original = CHAINS[kind]
    changed = octets[1:]
    chain = (*original[:at], changed, *original[at + 1 :])
    fault = check_chain(chain, _TRUST)
    assert fault is None or fault.text.isprintable()
    if fault is None:
        assert _signed(chain[0]) in _GOOD, "believed, though the authority has not signed this leaf"
        assert _signed(changed) in _GOOD, "believed, though the authority has not signed this certificate"
    _check_dane(chain, original, at)
    return fault is None


def _check_dane(chain: tuple[bytes, ...], original: tuple[bytes, ...], at: int) -> None:
    """The records are those of the chain as it was."""
    records = _records(original)
    record = records[crc32(chain[at]) % len(records)]
    found = matching_record(UsableTlsa(NAME, (NAME,), (record,)), chain, AT)
    if isinstance(found, str):
        assert found.isprintable()
        return
    assert found == record
    if record.usage == 3:
        same = chain[0] == original[0] if record.selector == 0 else _key(chain[0]) == _key(original[0])
    elif at == 1 and record.data not in (ROOT, public_key(ROOT)):  # it is this certificate that is the authority
        same = chain[1] == original[1] if record.selector == 0 else _key(chain[1]) == _key(original[1])
    else:
        same = _signed(chain[at]) in _ISSUED
    assert same, f"{record} matches, though what it speaks of has changed"


def _records(chain: tuple[bytes, ...]) -> list[TlsaRecord]:
    records = [
        TlsaRecord(3, 0, 1, hashlib.sha256(chain[0]).digest()),
        TlsaRecord(3, 1, 2, hashlib.sha512(public_key(chain[0])).digest()),
        TlsaRecord(2, 0, 0, ROOT),
        TlsaRecord(2, 1, 0, public_key(ROOT)),
    ]
    if len(chain) > 1:
        records += [
            TlsaRecord(2, 0, 2, hashlib.sha512(chain[1]).digest()),
            TlsaRecord(2, 1, 1, hashlib.sha256(public_key(chain[1])).digest()),
        ]
    return records


def _signed(octets: bytes) -> bytes | None:
    try:
        return signature(octets).signed
    except CertificateSyntaxError:
        return None


def _key(octets: bytes) -> bytes | None:
    try:
        return public_key(octets)
    except CertificateSyntaxError:
        return None


def _check_names(octets: bytes) -> bool:
    """A name of a certificate, a zero, and the name of a host."""
    pattern, _, name = octets.decode("latin-1").partition("\0")
    found = name_matches(pattern, name)
    assert found == _names_match(pattern.lower(), name.lower()), f"{pattern!r} for {name!r}"
    return found


def _names_match(pattern: str, name: str) -> bool:
    """RFC 9525 section 6.3: label by label, and a star for the whole leftmost; addresses are no names."""
    wanted, labels = pattern.split("."), name.split(".")
    if not name or ":" in name or labels[-1].isdigit() or len(wanted) != len(labels):
        return False
    if wanted == labels:
        return "*" not in name
    plain = labels[0] != "" and all(one in "abcdefghijklmnopqrstuvwxyz0123456789-" for one in labels[0])
    return wanted[0] == "*" and wanted[1:] == labels[1:] and len(labels) > 2 and plain


_ALL = tuple(dict.fromkeys(one for chain in CHAINS.values() for one in chain))
_WORDS = (
    b"mx.good.test", b"*.good.test", b"\x82\x0cmx.evil.test", b"\x30\x00", b"\x05\x00", b"\x30\x80", b"\x00\x00",
    b"\x06\x03\x55\x1d\x11", b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x04\x03", b"\x81",
    b"\x82", b"\x84\xff\xff\xff\xff", b"\x01\x01\xff", b"\xa3", b"\xa0\x03\x02\x01\x02", b"\x1f\x81",
)  # fmt: skip
_mutate = by_elements(_WORDS, _ALL)

CERTIFICATE = Target("certificate", _check_certificate, _ALL, _mutate)
CHAIN = Target(
    "chain",
    _check_chain,
    tuple(bytes((number,)) + CHAINS[kind][at] for number, (kind, at) in enumerate(_CHOICES)),
    lambda random, octets: octets[:1] + _mutate(random, octets[1:]),
)
NAMES = Target(
    "host-name",
    _check_names,
    (b"mx.good.test\0mx.good.test", b"*.good.test\0mx.good.test", b"*.test\0mx.test", b"*.x.y\0a-1.x.y"),
    by_octets((b"\0", b"*", b"*.", b".", b"..", b"mx", b"good.test", b"MX", b"1", b":", b"\xb5", b"\xc0", b"-", b"_")),
)
