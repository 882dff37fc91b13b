"""Signatures on what goes out, and the keys that make them: renewed when their files change. docs/dkim.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from datetime import datetime

from relay.delivery.body import Outgoing
from relay.events import DkimKeyRenewed, Emit, FileRefused, MessageUnsigned
from relay.mail.message import Claim
from relay.settings import Settings
from relay.signing.key_files import KeyFiles
from relay.signing.keys import SigningKey
from relay.signing.signature import Signer

LOOK_AT_KEYS_EVERY_SECONDS = 60.0


class Signing:
    """Of one running Relay. `signer` holds the keys that are in force."""

    def __init__(self, files: KeyFiles, signer: Signer, emit: Emit) -> None:
        self.signer = signer
        self._files = files
        self._emit = emit

    async def sign(self, claim: Claim, body: Outgoing, now: datetime) -> Outgoing:
        """The message with its signatures in front, or as it is where there is no key for it.

        It is read once, up to the end of its header at least. What that raises comes through.
        """
        message = self.signer.message()
        async with aclosing(body.read()) as pieces:
            async for octets in pieces:
                if not message.feed(octets):
                    break
        signed = message.end(now)
        if signed.problem is not None:
            # Not a reason to keep mail back: the key may be mended long after its recipients have waited for it, and
            # SPF alone makes DMARC pass.
            self._emit(MessageUnsigned(str(claim.id), signed.problem))
        return body.behind(signed.fields) if signed.fields else body

    async def renew(self, hung_up: asyncio.Event) -> None:
        """Take new keys when there are some, for ever. `hung_up`: look at the files now."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AT_KEYS_EVERY_SECONDS):
                    await hung_up.wait()
            hung_up.clear()
            changes = await asyncio.to_thread(self._files.refresh)
            for problem in changes.problems:
                self._emit(FileRefused(problem))
            self.signer.keys = self._files.table
            for key in changes.renewed:
                self._emit(DkimKeyRenewed(key.domain, key.selector))


def signing_of(settings: Settings, emit: Emit, usable: Callable[[SigningKey], bool]) -> Signing | None:
    """As the settings have it; None: no mail is signed. `usable`: whether a key may sign now.

    Raises ValueError for a key that cannot be used.
    """
    if not settings.dkim_key:
        return None
    files = KeyFiles(settings.dkim_key)
    return Signing(files, Signer(files.table, settings.dkim.canonicalization, usable), emit)
