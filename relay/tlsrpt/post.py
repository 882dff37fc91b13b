"""Sending a TLS report by HTTPS, to an address that a stranger named in DNS.

So: no redirects, no proxies, no cookies, no address that `relay.guard` does not let us connect to, and of the answer
nothing is used but its status. The certificate is verified first; where it alone is at fault the report goes all the
same, for a report that tells of a broken certificate must not be lost to it. RFC 8460 sections 3 and 5.4.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
from yarl import URL

from relay.guard import AddressGuard
from relay.https_session import https_fault, https_session
from relay.lookup.guarded import GuardedResolver
from relay.lookup.resolver import Resolver
from relay.policy.tlsrpt_record import HttpsTo

TIMEOUT = timedelta(seconds=60)  # for the whole of it
MEDIA_TYPE = "application/tlsrpt+gzip"


@dataclass(frozen=True, slots=True)
class Posted:
    """The host took the report. `certificate_fault`: a clause, when its certificate was not accepted."""

    status: int
    certificate_fault: str | None = None


@dataclass(frozen=True, slots=True)
class NotPosted:
    """It did not, for now; `reason` is a clause that repeats nothing of what it sent."""

    reason: str


class Poster:
    """Posts reports. `verified` must verify chain and host name (ValueError if it does not); `unverified` need not."""

    def __init__(
        self,
        resolver: Resolver,
        guard: AddressGuard,
        verified: ssl.SSLContext,
        unverified: ssl.SSLContext,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        if verified.verify_mode is not ssl.CERT_REQUIRED or not verified.check_hostname:
            raise ValueError("the first context must verify chain and host name")
        self._resolver = resolver
        self._guard = guard
        self._verified = verified
        self._unverified = unverified
        self._timeout = timeout

    async def post(self, place: HttpsTo, report: bytes) -> Posted | NotPosted:
        """Send `report` (gzip) to `place`. Every status of 200 to 299 says that it arrived."""
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                return await self._with_any_certificate(place, report)
        except TimeoutError:
            return NotPosted(f"{place.host} did not answer within {self._timeout.total_seconds():g} seconds")
        except aiohttp.ClientConnectorDNSError as error:
            return NotPosted(f"{place.host}: {error.os_error}")
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return NotPosted(f"{place.host}: {https_fault(error)}")

    async def _with_any_certificate(self, place: HttpsTo, report: bytes) -> Posted | NotPosted:
        fault = None
        try:
            status = await self._send(place, report, self._verified)
        except aiohttp.ClientConnectorCertificateError as error:
            fault = https_fault(error)
            status = await self._send(place, report, self._unverified)  # RFC 8460 §3: certificate errors may be ignored
        if 200 <= status <= 299:
            return Posted(status, fault)
        if 300 <= status <= 399:
            return NotPosted(f"{place.host} answered with a redirect ({status}), which is not followed")
        return NotPosted(f"{place.host} answered {status}")

    async def _send(self, place: HttpsTo, report: bytes, context: ssl.SSLContext) -> int:
        resolver = GuardedResolver(self._resolver, self._guard)
        async with (
            https_session(context, {"Content-Type": MEDIA_TYPE}, resolver) as session,
            session.post(URL(place.uri, encoded=True), data=report, allow_redirects=False) as response,
        ):
            return response.status  # what comes behind the head is not read
