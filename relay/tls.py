"""TLS: trusted authorities, the contexts of every connection, and what a finished handshake shows.

The only place of the product that builds an `ssl.SSLContext`. Every context states what it wants, so that nothing
depends on the distribution's OpenSSL settings or on the Python version. Verifies nothing itself: OpenSSL does in the
handshake, `policy.chain` and `policy.tlsa` do afterwards.

RFC 8996 (TLS versions), RFC 8461 sections 3.3 and 4.2, RFC 7672 section 3.1.1.
"""

from __future__ import annotations

import asyncio.sslproto
import re
import ssl
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import certifi

from relay.policy.observed import TlsVersion

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_HASHED_NAME = "[0-9a-f]" * 8 + ".[0-9]*"  # how `openssl rehash` names the files of a directory of authorities
_TLS_BUFFER_OCTETS = 16 * 1024 + 256
_OP_LEGACY_SERVER_CONNECT = 0x4  # ssl has it from 3.12 on: servers from before RFC 5746 (secure renegotiation)
_ENCODING_DER = 2  # _ssl.ENCODING_DER: before 3.13 certificates of the chain have to be asked for their DER form

_VERSIONS = {
    "SSLv3": TlsVersion.SSL_3,
    "TLSv1": TlsVersion.TLS_1_0,
    "TLSv1.1": TlsVersion.TLS_1_1,
    "TLSv1.2": TlsVersion.TLS_1_2,
    "TLSv1.3": TlsVersion.TLS_1_3,
}

_WRONG_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # the last: RSA for EC
_CERTIFICATE_FAULTS = {
    "EE_KEY_TOO_SMALL": "has too short a key: RSA keys need 2048 bits, EC keys 224",
    "CA_KEY_TOO_SMALL": "holds an authority with too short a key: RSA keys need 2048 bits, EC keys 224",
    "CA_MD_TOO_WEAK": "holds a certificate with too weak a signature (SHA-1 or MD5)",
}


def load_roots(ca_file: Path | None) -> bytes:
    """The trusted authorities in PEM: the system's (certifi's when the system has none) and those of `ca_file`.

    An authority of the system that this OpenSSL cannot read is left out. Raises OSError when `ca_file` cannot be read
    and ValueError when it holds no certificate or a broken one; both name it.
    """
    trusted = list(dict.fromkeys(_system_certificates()))
    if not _is_readable(b"\n".join(trusted)):  # all at once takes half as long as one by one
        trusted = [pem for pem in trusted if _is_readable(pem)]
    if not trusted:
        trusted = _CERTIFICATE.findall(certifi.contents().encode("ascii", "replace"))
    if ca_file is not None:
        trusted += _certificates_of(ca_file)
    return b"\n".join(dict.fromkeys(trusted)) + b"\n"


def _system_certificates() -> Iterable[bytes]:
    """What OpenSSL would use by default: one file, and a directory of hashed names (SSL_CERT_FILE, SSL_CERT_DIR)."""
    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else []
    if paths.capath:
        files += sorted(Path(paths.capath).glob(_HASHED_NAME))
    for file in files:
        try:
            found = _CERTIFICATE.findall(file.read_bytes())
        except OSError:
            continue  # a dangling link: OpenSSL passes over it too
        yield from found


def _certificates_of(ca_file: Path) -> list[bytes]:
    found = _CERTIFICATE.findall(ca_file.read_bytes())
    if not found:
        raise ValueError(f"{ca_file}: no certificate in PEM form in it")
    for number, pem in enumerate(found, 1):
        if not _is_readable(pem):
            raise ValueError(f"{ca_file}: certificate {number} in it is broken")
    return found


def _is_readable(pem: bytes) -> bool:
    """Whether OpenSSL can read all certificates in it, and there is one at least."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        return False
    return True


class ClientContexts:
    """The contexts for mail hosts. Loading the authorities takes long, so make one and share it.

    * `opportunistic`: any certificate, TLS 1.0 and newer: nothing is required, and old TLS is better than none.
    * `required`: any certificate, TLS 1.2 and newer: DANE, whose records are compared afterwards, and mandatory TLS.
    * `webpki`: OpenSSL breaks the handshake off unless the chain leads to a trusted authority and names the host that
      is given as `server_hostname`, so that it fails closed.
    * `webpki_other_name`: the same but for the name, which the caller must check: for when another name is sent as SNI.
    """

    def __init__(self, roots_pem: bytes) -> None:
        """`roots_pem`: what `load_roots` returned."""
        self.opportunistic = _client(ssl.TLSVersion.MINIMUM_SUPPORTED, security_level=0)
        self.opportunistic.options |= _OP_LEGACY_SERVER_CONNECT
        self.required = _client(ssl.TLSVersion.TLSv1_2, security_level=1)  # RFC 8996: TLS that counts is 1.2 or newer
        self.webpki = _verifying(roots_pem)
        self.webpki_other_name = _verifying(roots_pem)
        self.webpki_other_name.check_hostname = False


def https_context(roots_pem: bytes) -> ssl.SSLContext:
    """For the HTTPS hosts of MTA-STS policies: web PKI. RFC 8461 section 3.3.

    asyncio does not tell a TLS session that was closed from one that was cut off: the caller must not take the end of
    the connection for the end of a policy.
    """
    context = _verifying(roots_pem)
    context.set_alpn_protocols(["http/1.1"])
    return context


def https_context_unverified() -> ssl.SSLContext:
    """For HTTPS hosts whose certificate was refused and that get TLS reports all the same. RFC 8460 section 3."""
    context = _client(ssl.TLSVersion.TLSv1_2, security_level=1)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _client(minimum: ssl.TLSVersion, security_level: int) -> ssl.SSLContext:
    """Accepts any certificate. PROTOCOL_TLS_CLIENT rules out SSL 2 and 3 whatever the minimum."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Not VERIFY_X509_STRICT, which refuses authorities of the web; not VERIFY_X509_PARTIAL_CHAIN: anchors are roots.
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST
    context.hostname_checks_common_name = False  # RFC 8461 §4.2, RFC 9525 §6.3: names are in subjectAltName only
    context.minimum_version = minimum
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    context.set_ciphers(f"DEFAULT:@SECLEVEL={security_level}")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _verifying(roots_pem: bytes) -> ssl.SSLContext:
    context = _client(ssl.TLSVersion.TLSv1_2, security_level=2)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.load_verify_locations(cadata=roots_pem.decode("ascii"))
    return context


@dataclass(frozen=True, slots=True)
class ServerContexts:
    """For submission, with one certificate of ours: `silent` asks clients for none.

    `asking` asks; a client need not have one, but one that is not good breaks the handshake. None: nobody is asked.
    """

    silent: ssl.SSLContext
    asking: ssl.SSLContext | None = None

    def of(self, asks: bool) -> ssl.SSLContext:
        """The one for a listener that asks for certificates, if there are authorities for them, or does not."""
        return self.asking if asks and self.asking is not None else self.silent


def server_contexts(certificate: Path, key: Path, client_ca: Path | None) -> ServerContexts:
    """Both. `client_ca`: the authorities whose clients count. Raises ValueError, naming the file and its fault."""
    silent = server_context(certificate, key)
    if client_ca is None:
        return ServerContexts(silent)
    try:
        authorities = _certificates_of(client_ca)
    except OSError as error:
        raise ValueError(f"{client_ca}: cannot be read: {error.strerror}") from None
    asking = server_context(certificate, key)
    # As a server OpenSSL takes only certificates that clients may use (extendedKeyUsage), without being told.
    asking.load_verify_locations(cadata=b"\n".join(authorities).decode("ascii"))
    asking.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST
    asking.verify_mode = ssl.CERT_OPTIONAL
    return ServerContexts(silent, asking)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For submission: TLS 1.2 and newer. `certificate` holds the chain, leaf first.

    Raises ValueError, naming the file and what is wrong with it.
    """
    _require(certificate, _CERTIFICATE, "no certificate in PEM form in it")
    _require(key, _PRIVATE_KEY, "no private key in PEM form in it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE

    def no_password() -> str:  # without it OpenSSL would ask on the terminal
        raise ValueError(f"{key}: the private key is encrypted; it must be stored without a password")

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        raise ValueError(_loading_fault(certificate, key, error)) from None
    return context


def certificates_in(file: Path) -> tuple[bytes, ...]:
    """The certificates of a PEM file in DER, in their order. Raises OSError, and ValueError for what is no base64."""
    return tuple(ssl.PEM_cert_to_DER_cert(pem.decode("ascii")) for pem in _CERTIFICATE.findall(file.read_bytes()))


def _require(file: Path, wanted: re.Pattern[bytes], otherwise: str) -> None:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    if wanted.search(content) is None:
        raise ValueError(f"{file}: {otherwise}")


def _loading_fault(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    reason = error.reason or "no reason given"
    if reason in _WRONG_KEY:
        return f"{key}: is not the key of the certificate in {certificate}"
    if reason in _CERTIFICATE_FAULTS:
        return f"{certificate}: {_CERTIFICATE_FAULTS[reason]}"
    return f"{certificate} or {key}: cannot be used: OpenSSL says {reason}"


def peer_chain(tls: ssl.SSLObject | ssl.SSLSocket) -> tuple[bytes, ...]:
    """The certificates the other side sent, in DER, leaf first, verified or not; empty when there are none to be had.

    Not to be had after a resumed session either: nothing in the product resumes one.
    """
    if sys.version_info >= (3, 13):
        return tuple(tls.get_unverified_chain())
    sent = tls._sslobj.get_unverified_chain() or ()  # type: ignore[union-attr]
    return tuple(certificate.public_bytes(_ENCODING_DER) for certificate in sent)


def tls_version(tls: ssl.SSLObject | ssl.SSLSocket) -> TlsVersion:
    """The version that a finished handshake settled on. KeyError before that."""
    return _VERSIONS[tls.version() or ""]


def shrink_tls_buffers() -> None:
    """Let asyncio take 16 KiB instead of 256 KiB for each TLS connection made from now on. Call it once, at start."""
    asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER_OCTETS
