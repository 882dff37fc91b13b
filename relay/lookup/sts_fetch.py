"""Fetching one MTA-STS policy over HTTPS, from a host whose name comes from strangers and whose words are not trusted.

The host must prove its name by the web's authorities. Redirects, other types than text/plain, compression, large and
slow answers are refused, as are addresses that `relay.guard` does not let us connect to. What a policy means and when
it is wanted is not decided here. RFC 8461 section 3.3, RFC 6125 section 6.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta

import aiohttp

from relay.guard import AddressGuard
from relay.https_session import https_fault, https_session
from relay.lookup.guarded import GuardedResolver
from relay.lookup.resolver import Resolver
from relay.policy.sts import (
    MAX_POLICY_OCTETS,
    StsFetchFailed,
    StsPolicy,
    StsProblem,
    StsSyntaxError,
    parse_policy,
)

TIMEOUT = timedelta(seconds=60)  # for the whole fetch; RFC 8461 section 3.3
_CHUNK = 16384


class PolicyFetcher:
    """Fetches policies from port `port` of policy hosts.

    `context` must verify chain and host name, ignore common names and demand TLS 1.2: ValueError if it does not.
    """

    def __init__(
        self,
        resolver: Resolver,
        port: int,
        guard: AddressGuard,
        context: ssl.SSLContext,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
            raise ValueError("policies must come over verified TLS")
        if context.hostname_checks_common_name or context.minimum_version < ssl.TLSVersion.TLSv1_2:
            raise ValueError("policy hosts must be named in the subjectAltName and speak TLS 1.2")  # RFC 8461 §3.3
        self._resolver = resolver
        self._port = port
        self._guard = guard
        self._context = context
        self._timeout = timeout

    async def fetch(self, domain: str) -> StsPolicy | StsFetchFailed:
        """The policy of `domain` (A-labels, no literal), or why it cannot be had."""
        host = f"mta-sts.{domain}"
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                return parse_policy(await self._download(host))
        except TimeoutError:
            seconds = self._timeout.total_seconds()
            what = f"the policy host {host} did not send the policy within {seconds:g} seconds"
            return StsFetchFailed(what, StsProblem.FETCH)
        except StsSyntaxError as error:
            return StsFetchFailed(f"the policy at {host} is not valid: {error}", StsProblem.INVALID)
        except (_Unfit, OSError, aiohttp.ClientError, ValueError) as error:
            of_certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
            problem = StsProblem.CERTIFICATE if of_certificate else StsProblem.FETCH
            return StsFetchFailed(f"the policy could not be fetched from {host}: {_why(error)}", problem)

    async def _download(self, host: str) -> bytes:
        resolver = GuardedResolver(self._resolver, self._guard)
        async with (
            https_session(self._context, {"Accept": "text/plain"}, resolver) as session,
            session.get(f"https://{host}:{self._port}/.well-known/mta-sts.txt", allow_redirects=False) as response,
        ):
            _check_head(response)
            return await _read(response)


class _Unfit(Exception):  # noqa: N818  (the name says it)
    """The host answered, but not with what we may take for a policy."""


def _check_head(response: aiohttp.ClientResponse) -> None:
    """RFC 8461 §3.3: 200 and nothing else, no redirect; §3.2: text/plain."""
    if 300 <= response.status <= 399:
        raise _Unfit(f"it answered with a redirect ({response.status}), which MTA-STS does not allow")
    if response.status != 200:
        raise _Unfit(f"it answered {response.status}")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "text/plain":  # by hand: aiohttp takes any nonsense for text/plain
        raise _Unfit("its answer is not of the type text/plain")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise _Unfit("its answer is compressed")
    if "Content-Length" not in response.headers and not response.headers.get("Transfer-Encoding"):
        # An attacker can end a connection wherever he likes (TLS does not tell), and cut "max_age: 604800" to 6.
        raise _Unfit("its answer does not say where it ends")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    octets = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        octets += chunk
        if len(octets) > MAX_POLICY_OCTETS:
            raise _Unfit(f"its answer is larger than {MAX_POLICY_OCTETS} octets")
    return bytes(octets)


def _why(error: Exception) -> str:
    """In words that do not repeat what the host sent."""
    match error:
        case _Unfit():
            return str(error)
        case aiohttp.ClientConnectorDNSError():
            return str(error.os_error)
        case _:
            return https_fault(error)
