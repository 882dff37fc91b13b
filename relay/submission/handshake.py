"""What a TLS handshake with a client has come to. RFC 3207, RFC 8314."""

from __future__ import annotations

import asyncio
import ssl


def handshake_fault(error: Exception) -> str:
    """Why a TLS handshake with a client failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not good: {error.verify_message}"
    if isinstance(error, ValueError):
        return "the client's certificate cannot be read"
    return getattr(error, "reason", None) or str(error) or type(error).__name__


def tls_of(link: asyncio.Transport) -> tuple[str, str] | None:
    """Version and cipher; None for clear text."""
    seen = link.get_extra_info("ssl_object")
    if seen is None:
        return None
    cipher = seen.cipher()
    return seen.version() or "", cipher[0] if cipher else ""
