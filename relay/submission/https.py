"""One question to a web service of the operator's: its login service, or the place of an issuer's keys.

The home of aiohttp in submission. The host must prove its name by the web's authorities or those of `tls.ca_file`; no
redirect is followed, no proxy used, and neither a slow nor a large answer waited for. RFC 9110, RFC 9111 (max-age).
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import aiohttp

from relay.https_session import https_fault, https_session

TIMEOUT = timedelta(seconds=10)  # for the whole question
_MOST_OCTETS = 256 * 1024
_CHUNK = 16384
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said. `max_age`: for how many seconds it may be kept; None: it did not say."""

    status: int
    body: bytes
    max_age: int | None = None


class Https:
    """Asks. `context` must verify chain and host name: ValueError if it does not."""

    def __init__(self, context: ssl.SSLContext, timeout: timedelta = TIMEOUT) -> None:
        if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
            raise ValueError("a login must be asked for over verified TLS")
        self._context = context
        self._seconds = timeout.total_seconds()

    async def get(self, url: str) -> Answer | str:
        """The answer, or a sentence that says why there is none. It repeats nothing that the service sent."""
        return await self._ask("GET", url, {}, None)

    async def post(self, url: str, headers: Mapping[str, str], content: Mapping[str, str]) -> Answer | str:
        """The same, with `content` as a JSON object."""
        body = json.dumps(content).encode()
        return await self._ask("POST", url, {**headers, "Content-Type": "application/json"}, body)

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer | str:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._exchange(method, url, headers, body)
        except TimeoutError:
            return f"it did not answer within {self._seconds:g} seconds"
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return https_fault(error)

    async def _exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer | str:
        async with (
            # One for each question: an idle connection that the host closes would fail a login.
            https_session(self._context, {"Accept": "application/json"}) as session,
            session.request(method, url, headers=headers, data=body, allow_redirects=False) as response,
        ):
            octets = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                octets += chunk
                if len(octets) > _MOST_OCTETS:
                    return f"its answer is larger than {_MOST_OCTETS} octets"
            found = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
            return Answer(response.status, bytes(octets), int(found[1]) if found else None)
