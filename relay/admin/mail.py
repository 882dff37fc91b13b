"""POST /v1/messages: takes mail, by the same rules as SMTP, and once for each Idempotency-Key. docs/admin-api.md.

It answers after the message is on disk. A message that comes as it is passes through chunk by chunk; a letter in JSON
has to be in memory, so few large ones are taken at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import hdrs, web

from relay.admin.letters import Stamp, needs_header, read_envelope, read_letter
from relay.admin.requests import FieldError
from relay.mail.handed import Accepted, Declined, HandedIn
from relay.mail.message import Once
from relay.mail.status import Kind, Reply
from relay.policy.clients import TOKEN
from relay.queue.objects import Object
from relay.queue.store import Earlier

RAW, LETTER = "message/rfc822", "application/json"
KEY = "Idempotency-Key"
CHUNK_SECONDS = 30.0  # for the next octets of a message
UPLOAD_SECONDS = 600.0  # for all of it
LARGE_OCTETS = 1 << 20
LARGE_AT_ONCE = 2  # each costs seven times its size while it is taken apart
MAX_HEADER = 256 << 10
BESIDE = 64 << 10  # octets of a letter in JSON that are no part of the message
UNREADABLE = (ConnectionError, web.RequestPayloadError)  # the client is gone, or what it sends is not what it says
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_KEY_FORM = re.compile(r"[!-~]{1,255}\Z")

Answer = tuple[int, Object]
Submit = Callable[[str, str, HandedIn, AsyncIterator[bytes], Callable[[], Once | None]], Awaitable[Accepted | Declined]]


class UploadTooSlowError(Exception):
    """What comes does so too slowly; the text is for the answer."""


class TooLargeError(Exception):
    """What comes is too large; the text is for the answer."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What is needed to take mail. `submit` takes address, login, envelope and octets; `earlier` what a key stored.

    `max_size`: of a message, in octets.
    """

    submit: Submit
    earlier: Callable[[str, str], Awaitable[Earlier | None]]
    max_size: int
    hostname: str
    clock: Callable[[], datetime]


class MailDesk:
    """Takes one request after the other for each key, and different ones at once."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self._turns: dict[tuple[str, str], _Turn] = {}
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def take(self, request: web.Request, token: str) -> Answer:
        """Answer one request. Raises FieldError and StoreUnavailable."""
        try:
            return await self._take(request, token)
        except UploadTooSlowError as error:
            return 408, {"error": str(error)}
        except TooLargeError as error:
            return 413, {"error": str(error)}

    async def _take(self, request: web.Request, token: str) -> Answer:
        login = f"{TOKEN}{token}"
        kind = request.content_type.lower()
        if kind not in (RAW, LETTER):
            return 415, {"error": f"the content type must be {RAW} or {LETTER}"}
        coming = _Coming(request)
        key = request.headers.get(KEY)
        if key is None:
            return await self._send(request, kind, login, coming, None)
        if not _KEY_FORM.match(key):
            raise FieldError(KEY, "must be of 1 to 255 printable ASCII characters without blanks")
        async with self._alone(login, key):
            earlier = await self._mail.earlier(login, key)
            if earlier is None:
                return await self._send(request, kind, login, coming, key)
            await coming.pass_over(self._mail.max_size + BESIDE)
            if coming.digest() != earlier.request:
                return 409, {"error": "this key came before, with another request", "field": KEY}
            return _stored(str(earlier.id), earlier.recipients)

    async def _send(self, request: web.Request, kind: str, login: str, coming: _Coming, key: str | None) -> Answer:
        def once() -> Once | None:
            return None if key is None else Once(login, key, coming.digest())

        async with AsyncExitStack() as stack:
            if kind == RAW:
                handed, octets = await self._raw(request, coming)
            else:
                if coming.may_be_large:
                    await stack.enter_async_context(self._large)
                handed, octets = await self._letter(coming)
            done = await self._mail.submit(request.remote or "", login, handed, octets, once)
        if isinstance(done, Declined):
            return _declined(done)
        return _stored(str(done.id), tuple(map(str, done.recipients)))

    async def _raw(self, request: web.Request, coming: _Coming) -> tuple[HandedIn, AsyncIterator[bytes]]:
        """The message as it is."""
        query = {field: request.query.getall(field) for field in request.query}
        head = bytearray()
        if needs_header(query):
            async for chunk in coming:
                looked = max(0, len(head) - 3)  # a blank line may have begun before
                head += chunk
                if _BLANK_LINE.search(head, looked) or len(head) > MAX_HEADER:
                    break
            coming.put_back(bytes(head))
        envelope = await asyncio.to_thread(read_envelope, query, _BLANK_LINE.split(bytes(head), maxsplit=1)[0])
        return envelope, coming

    async def _letter(self, coming: _Coming) -> tuple[HandedIn, AsyncIterator[bytes]]:
        if coming.has_query:
            raise FieldError(None, "a letter in JSON says everything itself: no parameters")
        text = await coming.read(self._mail.max_size + BESIDE)
        stamp = Stamp(self._mail.clock(), f"{secrets.token_hex(12)}@{self._mail.hostname}")
        handed, octets = await asyncio.to_thread(_read, text, stamp)
        return handed, _in_chunks(octets)

    @asynccontextmanager
    async def _alone(self, login: str, key: str) -> AsyncIterator[None]:
        """Two requests with one key come one after the other: the second sees what the first has stored."""
        turn = self._turns.setdefault((login, key), _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[login, key]


@dataclass(slots=True, eq=False)
class _Turn:
    """Whose turn it is among the requests with one key, and how many there are."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class _Coming:
    """The body of a request, chunk by chunk, and a digest of the request as far as it has come.

    Raises UploadTooSlowError when the next octets do not come in time, and FieldError when they do not come at all.
    """

    def __init__(self, request: web.Request) -> None:
        self.has_query = bool(request.query_string)
        length = request.content_length if hdrs.CONTENT_ENCODING not in request.headers else None
        self.may_be_large = length is None or length > LARGE_OCTETS
        self._content = request.content
        self._now = asyncio.get_running_loop().time
        self._deadline = self._now() + UPLOAD_SECONDS
        self._hash = hashlib.sha256(f"{request.content_type.lower()}\0{request.rel_url.raw_query_string}\0".encode())
        self._back = b""

    def digest(self) -> bytes:
        """Of what has come; the body must have been read to its end."""
        return self._hash.digest()

    def put_back(self, octets: bytes) -> None:
        """Let these octets come again, first."""
        self._back = octets

    def __aiter__(self) -> _Coming:
        return self

    async def __anext__(self) -> bytes:
        if self._back:
            chunk, self._back = self._back, b""
            return chunk
        try:
            async with asyncio.timeout_at(min(self._deadline, self._now() + CHUNK_SECONDS)):
                chunk = await self._content.readany()
        except TimeoutError:
            raise UploadTooSlowError(
                f"a message must come within {UPLOAD_SECONDS:g} s, and not pause for {CHUNK_SECONDS:g} s"
            ) from None
        except UNREADABLE:
            raise FieldError(None, "the request cannot be read to its end") from None
        if not chunk:
            raise StopAsyncIteration
        self._hash.update(chunk)
        return chunk

    async def read(self, most: int) -> bytearray:
        """All of it. Raises TooLargeError when there are more octets than `most`."""
        octets = bytearray()
        async for chunk in self:
            octets += chunk
            if len(octets) > most:
                raise TooLargeError(f"the request has more than {most} octets")
        return octets

    async def pass_over(self, most: int) -> None:
        """Read to the end and keep nothing. Raises as `read` does."""
        size = 0
        async for chunk in self:
            size += len(chunk)
            if size > most:
                raise TooLargeError(f"the request has more than {most} octets")


def _read(text: bytearray, stamp: Stamp) -> tuple[HandedIn, bytes]:
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise FieldError(None, "the body must be a JSON object") from None
    return read_letter(body, stamp)


async def _in_chunks(octets: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(octets), 256 << 10):
        yield octets[start : start + (256 << 10)]


def _stored(id: str, recipients: tuple[str, ...]) -> Answer:
    return 201, {"id": id, "recipients": list(recipients)}


def _declined(declined: Declined) -> Answer:
    reply = declined.reply
    answer: Object = {"error": _words(reply), "status": str(reply.status)}
    if declined.recipients:
        answer["recipients"] = [
            {"recipient": str(recipient), "status": str(why.status), "error": _words(why)}
            for recipient, why in declined.recipients
        ]
    return _http_status(reply), answer


def _words(reply: Reply) -> str:
    """Without the codes, which stand beside it."""
    return " ".join(reply.lines).removeprefix(str(reply.status)).strip()


def _http_status(reply: Reply) -> int:
    policy = reply.status.subject == 7  # RFC 3463 §3.8
    if reply.status.kind is Kind.TEMPORARY:
        return 429 if policy else 503
    if reply.code == 552:
        return 413
    return 403 if policy else 422
