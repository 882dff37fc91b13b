"""An HTTPS server on loopback that serves MTA-STS policies of many domains, and misbehaves as each page says.

It speaks just enough HTTP to answer one GET per connection, and does that by hand: broken answers are the point.
It must not be used outside the lab. RFC 8461 section 3.3 (the policy host), RFC 9112 (HTTP/1.1), RFC 6066 (SNI).
"""

from __future__ import annotations

import asyncio
import gzip
import http
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from relay.lab.http import phrase, read_request
from relay.lab.listener import Listener, reset
from relay.lab.tls_stream import TlsStream
from relay.settings import HostPort

_PREFIX = "mta-sts."
_PATH = "/.well-known/mta-sts.txt"
_DRIP_SECONDS = 0.1


class PageFault(Enum):
    """What goes wrong between a good request and the end of its answer."""

    RESET = "reset"  # RST in place of an answer
    STALL = "stall"  # no answer
    DRIP = "drip"  # the body comes at ten octets a second
    CUT = "cut"  # the connection ends in the middle of the body
    GARBAGE = "garbage"  # what comes is no HTTP


@dataclass(frozen=True, slots=True)
class SitePage:
    """What `https://mta-sts.DOMAIN/.well-known/mta-sts.txt` answers. The default is right, given text and certificate.

    `policy` is the text as it is sent. `context` holds the host's certificate; None: no TLS for this name.
    `redirect_to` is a URL; a `status` that is no 3xx becomes 301 then. `body` are octets in place of the text.
    `content_type` None: no such header. `content_encoding` is claimed, and `gzip` is also done (not to `body`).
    """

    policy: str
    context: ssl.SSLContext | None = None
    status: int = 200
    content_type: str | None = "text/plain"
    redirect_to: str | None = None
    delay_seconds: float = 0.0
    body: bytes | None = None
    content_encoding: str | None = None
    fault: PageFault | None = None


class StsSite:
    """The server. `requests` counts the questions for each domain's policy; pages can be changed while it runs.

    The name that the client asks for in the handshake (SNI) chooses the certificate; for names without a page, or
    none, the handshake fails. `handshakes` counts by that name, whether the client then liked the certificate or not.
    """

    def __init__(self, pages: Mapping[str, SitePage] | None = None) -> None:
        self.requests: Counter[str] = Counter()
        self.handshakes: Counter[str] = Counter()
        self._pages: dict[str, SitePage] = {}
        self._listener = Listener(self._serve)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.sni_callback = self._choose
        for domain, page in (pages or {}).items():
            self.set(domain, page)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> HostPort:
        """Serve at `host` and `port` (0: the kernel chooses one). Returns the address. Raises OSError."""
        return await self._listener.start(host, port)

    async def stop(self) -> None:
        """Stop, and end all connections. The pages stay, and `start` works again. Can be repeated."""
        await self._listener.stop()

    def set(self, domain: str, page: SitePage) -> None:
        """Serve `page` for `domain` (without `mta-sts.`) from the next connection on."""
        self._pages[domain.lower()] = page

    def remove(self, domain: str) -> None:
        """Have no page, and no certificate, for `domain`. Raises KeyError when there was none."""
        del self._pages[domain.lower()]

    def _choose(self, tls: ssl.SSLObject, name: str | None, _base: ssl.SSLContext) -> int | None:
        """What OpenSSL calls during the handshake: an alert number, or None when all is well."""
        host = (name or "").lower()
        self.handshakes[host] += 1
        page = self._pages.get(_domain(host))
        if page is None or page.context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = page.context
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The handshake is done here, and not by the listener, so that it ends with the site; and not by asyncio, which
        # on uvloop loses what the client has sent before it begins.
        tls = TlsStream(reader, writer, self._context)
        await tls.handshake()
        request = await read_request(tls)
        domain = _domain(request.host)
        page = self._pages.get(domain)
        if page is None:
            page = SitePage("no such host\r\n", status=400)
        elif request.method != "GET" or request.target != _PATH:
            page = SitePage("nothing here\r\n", status=404)
        else:
            self.requests[domain] += 1
        await asyncio.sleep(page.delay_seconds)
        await _send(tls, writer, page)


def _domain(host: str) -> str:
    """The domain whose policy host this is; empty: it is none."""
    return host.removeprefix(_PREFIX) if host.startswith(_PREFIX) else ""


async def _send(tls: TlsStream, writer: asyncio.StreamWriter, page: SitePage) -> None:
    """Answer with the page, or do what its fault says."""
    head, body = _head(page), _body(page)
    match page.fault:
        case None:
            await tls.write(head + body)
        case PageFault.RESET:
            reset(writer)
        case PageFault.STALL:
            while await tls.read():
                pass
        case PageFault.DRIP:
            await tls.write(head)
            for octet in body:
                await tls.write(bytes([octet]))
                await asyncio.sleep(_DRIP_SECONDS)
        case PageFault.CUT:
            await tls.write(head + body[: len(body) // 2])
        case PageFault.GARBAGE:
            await tls.write(b"\x00\xff this is no HTTP\r\n\r\n")


def _body(page: SitePage) -> bytes:
    if page.body is not None:
        return page.body
    octets = page.policy.encode()
    return gzip.compress(octets) if page.content_encoding == "gzip" else octets


def _head(page: SitePage) -> bytes:
    """The status line and the header fields."""
    redirects = page.redirect_to is not None and not 300 <= page.status <= 399
    status = http.HTTPStatus.MOVED_PERMANENTLY if redirects else page.status
    fields = {
        "Content-Type": page.content_type,
        "Content-Encoding": page.content_encoding,
        "Content-Length": str(len(_body(page))),
        "Location": page.redirect_to,
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {int(status)} {phrase(status)}", *(f"{name}: {text}" for name, text in fields.items() if text)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
