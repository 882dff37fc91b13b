"""What takes mail, built from the settings: certificate, users, logins, quotas, DNS checks; and what has to be renewed.

`app` runs it. Nothing here listens: that is `submission.server`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from relay.events import CertificateRefused, CertificateRenewed, Emit
from relay.files import secret_file
from relay.guard import AddressGuard
from relay.lookup.alignment import AlignmentFinder
from relay.lookup.resolver import Resolver
from relay.mail.message import MessageId, NewMessage
from relay.policy.alignment import Kind
from relay.queue.store import BodyWriter
from relay.settings import Settings
from relay.signing.keys import KeyTable
from relay.signing_settings import AlignmentCheck
from relay.submission.alignment import AlignmentWatch
from relay.submission.certificate import Certificate
from relay.submission.domains import DomainChecks, LookUp
from relay.submission.front import Front
from relay.submission.quota import Quotas
from relay.submission.server import SubmissionServer
from relay.submission.sources import login_service, token_logins
from relay.submission.users import Users

LOOK_AT_CERTIFICATE_EVERY_SECONDS = 60.0
_LOGIN_SECRET = "login-secret"  # noqa: S105  (the name of the file)


class Reception:
    """Of one running Relay. `web`: for the hosts that logins are asked of.

    Raises ValueError, naming the file and what is wrong with it, and OSError for one that cannot be read.
    """

    def __init__(
        self, settings: Settings, folder: Path, clock: Callable[[], datetime], emit: Emit, web: ssl.SSLContext
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._emit = emit
        given = settings.submission
        self._certificate = None
        if given.tls_certificate is not None and given.tls_key is not None:
            self._certificate = Certificate(given.tls_certificate, given.tls_key, given.client_ca_file)
        self._users = Users.load(given.users_file) if given.users_file is not None else None
        self._quotas = Quotas(folder, clock, emit) if settings.clients.have_quotas else None
        self._alignment: AlignmentWatch | None = None
        self._service = login_service(settings.login, web, emit)
        self._tokens = token_logins(settings.login, web, clock, asyncio.get_running_loop().time, emit)

    def front(
        self,
        new_id: Callable[[], MessageId],
        new_body: Callable[[MessageId], BodyWriter],
        accept: Callable[[NewMessage], Awaitable[None]],
        look_up: LookUp,
        alignment: AlignmentWatch | None = None,
    ) -> Front:
        """What submission is given. `look_up`: where mail of a domain goes; `alignment`: from `watch_alignment`."""
        return Front(
            clock=self._clock,
            new_id=new_id,
            emit=self._emit,
            new_body=new_body,
            accept=accept,
            tls=self._certificate.contexts if self._certificate is not None else None,
            users=self._users,
            refusal=self._settings.routes.refusal,
            service=self._service,
            tokens=self._tokens,
            quotas=self._quotas,
            domains=self._domain_checks(look_up),
            alignment=alignment,
        )

    def watch_alignment(
        self, resolver: Resolver, hostname: str, keys: Callable[[], KeyTable], count: Callable[[Kind], None]
    ) -> AlignmentWatch | None:
        """Who looks whether mail will pass DMARC; None: nobody. `count` is told of each message."""
        given = self._settings
        if given.alignment.check is AlignmentCheck.OFF:
            return None
        self._alignment = AlignmentWatch(
            alignment_finder(given, hostname, resolver, keys).find,
            given.routes,
            self._emit,
            count,
            asyncio.get_running_loop().time,
            refuse=given.alignment.check is AlignmentCheck.REFUSE,
        )
        return self._alignment

    async def open(self) -> None:
        """Read what is kept in the folder, which must be there."""
        if self._users is not None:
            self._users.secret = secret_file(self._folder / _LOGIN_SECRET)
        if self._quotas is not None:
            await self._quotas.open()

    async def close(self) -> None:
        """Write down what is in memory alone, and give up what is being looked up."""
        if self._alignment is not None:
            await self._alignment.close()
        if self._quotas is not None:
            await self._quotas.close()
        if self._tokens is not None:
            await self._tokens.close()

    async def tidy(self) -> None:
        """Forget what does not count any more. To be called again and again."""
        if self._quotas is not None:
            await self._quotas.tidy()

    async def renew(self, server: SubmissionServer, hung_up: asyncio.Event) -> None:
        """Give the server a new certificate when there is one, for ever. `hung_up`: look at the files now."""
        while self._certificate is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AT_CERTIFICATE_EVERY_SECONDS):
                    await hung_up.wait()
            hung_up.clear()
            problem = self._certificate.refresh()
            if problem is not None:
                self._emit(CertificateRefused(problem))
            elif server.tls is not self._certificate.contexts:
                server.tls = self._certificate.contexts
                self._emit(CertificateRenewed())

    def _domain_checks(self, look_up: LookUp) -> DomainChecks | None:
        given = self._settings.submission
        if not (given.check_sender_domain or given.check_recipient_domain):
            return None
        return DomainChecks(
            look_up=look_up,
            routes=self._settings.routes,
            limit=self._settings.dns.timeout,
            of_senders=given.check_sender_domain,
            of_recipients=given.check_recipient_domain,
        )


def alignment_finder(
    settings: Settings, hostname: str, resolver: Resolver, keys: Callable[[], KeyTable]
) -> AlignmentFinder:
    """What finds out whether mail of a domain will pass DMARC."""
    given = settings.delivery
    guard = AddressGuard(given.allow_private_addresses)
    return AlignmentFinder(resolver, settings.sources(hostname), given.public_addresses, guard, keys)
