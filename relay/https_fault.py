"""Why a host gave no answer over HTTPS, in words. RFC 9110; for MTA-STS policies and for logins."""

from __future__ import annotations

import ssl

import aiohttp


def https_fault(error: Exception) -> str:
    """A clause about the host, which repeats nothing of what it sent. `error`: of aiohttp, or of a socket."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = error.certificate_error
            detail = reason.verify_message if isinstance(reason, ssl.SSLCertVerificationError) else "not valid"
            return f"its certificate was not accepted ({detail})"
        case aiohttp.ClientConnectorSSLError():
            return "the TLS handshake failed"
        case aiohttp.ClientConnectorDNSError():
            return "its name has no address"
        case aiohttp.ClientConnectorError() | OSError():
            return "no connection to it could be made"
        case _:
            return "it did not answer in proper HTTP"
