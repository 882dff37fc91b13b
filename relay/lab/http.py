"""HTTP/1.1 as the lab's servers read it: one request, by hand, for broken answers are the point. RFC 9112."""

from __future__ import annotations

import http
from collections.abc import Mapping
from dataclasses import dataclass

from relay.lab.tls_stream import TlsStream

_MAX_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `fields` by name in lower case; `host` is without the port, and empty when there is not one."""

    method: str
    target: str
    host: str
    fields: Mapping[str, str]
    body: bytes


async def read_request(tls: TlsStream) -> Request:
    """The next request, with as much of a body as Content-Length says.

    Raises EOFError when the client leaves, or has too much to say.
    """
    octets = b""
    while b"\r\n\r\n" not in octets:
        octets = await _more(tls, octets)
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, target = first.rpartition(" ")[0].partition(" ")
    fields = [(name.lower(), text.strip()) for name, _, text in (line.partition(":") for line in lines)]
    hosts = [text.lower().partition(":")[0] for name, text in fields if name == "host"]
    size = dict(fields).get("content-length", "")
    while size.isdecimal() and len(body) < int(size):
        body = await _more(tls, body)
    return Request(method, target, hosts[0] if len(hosts) == 1 else "", dict(fields), body)


def phrase(status: int) -> str:
    """What stands behind a status code."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unregistered"


async def _more(tls: TlsStream, octets: bytes) -> bytes:
    more = await tls.read()
    if not more or len(octets) > _MAX_OCTETS:
        raise EOFError
    return octets + more
