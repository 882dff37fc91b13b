"""One exchange with a web host whose words are not trusted, and in words why there was none. RFC 9110.

For MTA-STS policies, TLS reports and logins.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver


def https_session(
    context: ssl.SSLContext, headers: Mapping[str, str], resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """A session for one request: it remembers nothing, knows no proxies, and waits for as long as the caller lets it.

    `resolver`: finds addresses instead of the system. Redirects are for the caller to turn off: `allow_redirects`.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, ssl=context, use_dns_cache=False, force_close=True),
        headers={**headers, "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,  # no proxies, no .netrc
        auto_decompress=False,
    )


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
