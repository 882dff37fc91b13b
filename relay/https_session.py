"""One exchange with a web host whose words are not trusted, and in words why there was none. RFC 9110.

For MTA-STS policies, TLS reports and logins.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping

import aiohttp
from aiohttp.abc import AbstractResolver

_USER_AGENT = "Relay"  # aiohttp would name its version and Python's


@contextlib.asynccontextmanager
async def https_session(
    context: ssl.SSLContext, headers: Mapping[str, str], resolver: AbstractResolver | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for one request: it remembers nothing, knows no proxies, and waits for as long as the caller lets it.

    `resolver`: finds addresses instead of the system. Redirects are for the caller to turn off: `allow_redirects`. When
    it ends the host is heard no more, whatever it still sends.
    """
    sockets: list[socket.socket] = []

    def open_socket(address: tuple[int, int, int, str, object]) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        return sockets[-1]

    connector = aiohttp.TCPConnector(
        resolver=resolver, ssl=context, use_dns_cache=False, force_close=True, socket_factory=open_socket
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers={**headers, "Accept-Encoding": "identity", "User-Agent": _USER_AGENT},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,  # no proxies, no .netrc
        auto_decompress=False,
    ) as session:
        try:
            yield session
        finally:
            # A connection that is closed waits for the host's goodbye in TLS: uvloop reads for half a minute, however
            # much there is to read.
            for one in sockets:
                with contextlib.suppress(OSError):  # it is closed
                    one.shutdown(socket.SHUT_RDWR)


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
