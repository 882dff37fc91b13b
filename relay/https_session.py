"""One exchange with a web host whose words are not trusted, and in words why there was none. RFC 9110.

For MTA-STS policies, TLS reports and logins.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

_MOST_HEADS = 20  # in one connection; one is enough for honest hosts, a few 100 and 103 may come before it
_HEAD = b"HTTP/1."
_USER_AGENT = "Relay"  # aiohttp would name its version and Python's


@contextlib.asynccontextmanager
async def https_session(
    context: ssl.SSLContext, headers: Mapping[str, str], resolver: AbstractResolver | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for one request: it remembers nothing, knows no proxies, and waits for as long as the caller lets it.

    `resolver`: finds addresses instead of the system. Redirects are for the caller to turn off: `allow_redirects`. When
    it ends the host is heard no more, whatever it still sends.
    """
    connector = _Connector(resolver=resolver, ssl=context, use_dns_cache=False, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        headers={**headers, "Accept-Encoding": "identity", "User-Agent": _USER_AGENT},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,  # no proxies, no .netrc
        auto_decompress=False,
    ) as session:
        yield session


class _Handler(ResponseHandler):
    """A connection that ends when its host begins one answer after the other.

    aiohttp takes any number of answers 1xx (RFC 9110 section 15.2), all that came at once, and the whole service waits.
    And it is not closed but broken off: TLS waits for the host's goodbye, and uvloop reads for half a minute, however
    much there is to read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heads = 0

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        super().close()

    def data_received(self, data: bytes) -> None:
        self._heads += data.count(_HEAD)
        if self._heads <= _MOST_HEADS:
            super().data_received(data)
        elif self.transport is not None:
            self.set_exception(aiohttp.ClientPayloadError("too many answers"))
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """Makes connections of this kind. There is no public way to say which: tests/wire/test_guarded.py would notice."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._factory: Any = functools.partial(_Handler, loop=self._loop)


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
