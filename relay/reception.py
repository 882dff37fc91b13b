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
from relay.mail.message import MessageId, NewMessage
from relay.queue.store import BodyWriter
from relay.settings import Settings
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
        self._service = login_service(settings.login, web, emit)
        self._tokens = token_logins(settings.login, web, clock, asyncio.get_running_loop().time, emit)

    def front(
        self,
        new_id: Callable[[], MessageId],
        new_body: Callable[[MessageId], BodyWriter],
        accept: Callable[[NewMessage], Awaitable[None]],
        look_up: LookUp,
    ) -> Front:
        """What submission is given. `look_up`: where mail of a domain goes."""
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
        )

    async def open(self) -> None:
        """Read what is kept in the folder, which must be there."""
        if self._users is not None:
            self._users.secret = secret_file(self._folder / _LOGIN_SECRET)
        if self._quotas is not None:
            await self._quotas.open()

    async def close(self) -> None:
        """Write down what is in memory alone."""
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
