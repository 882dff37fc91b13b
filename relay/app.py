"""Builds the parts from the settings, joins them, runs them and puts them away. The only place that knows them all.

Also the only place that asks what time it is and rolls dice; everything else is given a clock and a source of chance.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import signal
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from relay import __version__, chores
from relay.admin.api import Api, Desk
from relay.admin.mail import Mail
from relay.admin.metrics import Metrics
from relay.admin.server import AdminServer, Sources, Stage
from relay.admin.tokens import Tokens
from relay.delivery.attempt import Attempt
from relay.delivery.logins import logins_of
from relay.delivery.pool import SessionPool
from relay.delivery.reviews import Reviewer
from relay.delivery.route import Router, own_mx_name
from relay.delivery.settling import Office
from relay.delivery.tools import Tools
from relay.delivery.worker import Limits, Worker
from relay.events import (
    DefectFound,
    Emit,
    FewFiles,
    OpenRelay,
    PolicyCacheFailed,
    ServiceStarted,
    ServiceStopped,
    TlsMemoryFailed,
)
from relay.guard import AddressGuard
from relay.listen import inherited_sockets, ports_of
from relay.log import log_lines
from relay.lookup.destination import find_destination
from relay.lookup.resolver import Resolver
from relay.lookup.sts import StsFinder
from relay.lookup.sts_cache import StsCache, StsCacheError
from relay.lookup.sts_fetch import PolicyFetcher
from relay.lookup.tls_memory import TlsMemories
from relay.mail.message import Claim, MessageId
from relay.mail.record import Attempted
from relay.policy.chain import Roots
from relay.queue.sqlite import SqliteStore
from relay.reception import Reception
from relay.reporting import Reporting, Ways
from relay.rerouting import chosen_route
from relay.settings import HostPort, Settings
from relay.signing_desk import SigningDesk
from relay.submission.intake import Intake
from relay.submission.server import SubmissionServer
from relay.tls import ClientContexts, https_context, load_roots, shrink_tls_buffers

STOP_GRACE = timedelta(seconds=25)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_OTHER_FILES = 100  # the queue, the log, DNS, policy hosts

Clock = Callable[[], datetime]
Work = Callable[[], Coroutine[Any, Any, None]]


def utc_now() -> datetime:
    """The real time."""
    return datetime.now(UTC)


def id_source(clock: Clock) -> Callable[[], MessageId]:
    """A function that gives queue ids: never the same twice in this process, growing with time."""
    last = 0

    def new_id() -> MessageId:
        nonlocal last
        last = max(last + 1, MessageId.make(clock(), random.getrandbits(16)).number)
        return MessageId(last)

    return new_id


def wanted_files(settings: Settings) -> int:
    """How many files the service may come to have open: each client, each delivery and each idle session has one."""
    return settings.submission.max_connections + 2 * settings.delivery.concurrency + _OTHER_FILES


class App:
    """One running Relay. `start` raises ValueError, OSError or QueueError, in one line each, when it can't begin."""

    def __init__(
        self, settings: Settings, folder: Path, hostname: str, clock: Clock = utc_now, emit: Emit | None = None
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._hostname = hostname
        self._clock = clock
        self._metrics = Metrics()
        self._emit = emit if emit is not None else log_lines()
        if settings.admin.listen:  # else nobody can ask
            self._emit = self._metrics.counting(self._emit)
        self._new_id = id_source(clock)
        self._routes = settings.routes
        self._store = SqliteStore(folder, self._routes.destination)
        self._guard = AddressGuard(settings.delivery.allow_private_addresses)
        self._reporting = Reporting(settings, folder, clock, self._emit, self._metrics.count_session)
        self._stack = AsyncExitStack()
        self.failed = asyncio.Event()  # a part that must run for ever has ended
        self._hearers: list[asyncio.Event] = []

    async def start(self) -> tuple[HostPort, ...]:
        """Begin to take and deliver mail. Returns the addresses where mail is taken."""
        try:
            return await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Take nothing more, finish what is under way within the grace time, and put everything away."""
        await self._stack.aclose()
        self._emit(ServiceStopped())

    def hang_up(self) -> None:
        """SIGHUP: look at the files now."""
        for event in self._hearers:
            event.set()

    def _hearer(self) -> asyncio.Event:
        """What `hang_up` sets: one for each part, for of several that share one the first clears it for all."""
        self._hearers.append(asyncio.Event())
        return self._hearers[-1]

    async def _start(self) -> tuple[HostPort, ...]:
        settings = self._settings
        shrink_tls_buffers()
        roots_pem = load_roots(settings.tls.ca_file)
        web = https_context(roots_pem)
        reception = Reception(settings, self._folder, self._clock, self._emit, web)
        inherited = inherited_sockets(os.environ, os.getpid())
        # The stack puts the parts away from the last to the first: no new mail, deliveries to their end, then the rest.
        self._stack.push_async_callback(self._store.close)
        loop_time = asyncio.get_running_loop().time  # what is kept goes by the same clock as what waits
        resolver = Resolver(settings.dns.nameservers, settings.dns.timeout, monotonic=loop_time)
        self._stack.push_async_callback(resolver.close)
        cache = StsCache(self._folder, lambda reason: self._emit(PolicyCacheFailed(reason)))
        self._stack.push_async_callback(cache.close)
        finder = self._finder(resolver, cache, web)
        memories = TlsMemories(
            self._folder, settings.tls_memory.rules, lambda reason: self._emit(TlsMemoryFailed(reason))
        )
        self._stack.push_async_callback(memories.close)
        self._stack.push_async_callback(self._reporting.close)
        self._stack.push_async_callback(reception.close)
        own_name = own_mx_name(settings, self._hostname, ports_of(inherited))
        worker = self._worker(resolver, finder, memories, roots_pem, own_name)
        look_up = partial(find_destination, resolver)
        alignment = reception.watch_alignment(resolver, self._hostname, self._keys, self._metrics.count_alignment)
        front = reception.front(self._new_id, self._store.new_body, worker.admit, look_up, alignment)
        server = SubmissionServer(settings, self._hostname, front)
        admin = self._admin(worker, server.intake)
        server.bind(inherited)  # both before anything on disk is touched
        self._stack.push_async_callback(server.stop, STOP_GRACE)
        admin.bind()
        self._stack.push_async_callback(admin.stop)
        await admin.start()
        await self._store.open(self._clock())
        await self._open(cache)
        await memories.open()
        await self._reporting.open()
        await reception.open()
        await chores.assess(resolver, settings.dns, self._emit, first=True)
        running = asyncio.create_task(self._watch("delivery", worker.run))
        self._stack.push_async_callback(self._end, worker, running)
        self._spawn_chores(resolver, finder, memories, reception)
        self._spawn("TLS reports", partial(self._reporting.send, self._ways(resolver, web)))
        self._stack.push_async_callback(server.stop, STOP_GRACE)
        self._spawn("certificate", partial(reception.renew, server, self._hearer()))
        addresses = await server.start()
        admin.stage = Stage.SERVING
        self._stack.callback(admin.leave)
        self._emit(ServiceStarted(__version__, self._hostname, str(self._folder)))
        self._warn()
        return addresses

    def _spawn_chores(self, resolver: Resolver, finder: StsFinder, memories: TlsMemories, reception: Reception) -> None:
        settings, clock, emit = self._settings, self._clock, self._emit
        self._spawn("reviews of waiting mail", self._reviewer.run)
        self._spawn("queue clean-up", partial(chores.tidy_queue, self._store, settings.queue.history, clock, emit))
        self._spawn("clean-up of hosts that had TLS", partial(chores.again, lambda: memories.tidy(clock())))
        self._spawn("clean-up of quotas", partial(chores.again, reception.tidy))
        self._spawn("clean-up of TLS reports", partial(chores.again, self._reporting.tidy))
        self._spawn("return of freed memory", chores.give_back_memory)
        self._spawn("end of overrides", partial(chores.watch_overrides, settings.overrides.entries, clock, emit))
        self._spawn("policy refresh", partial(chores.refresh_policies, finder, random.random))
        self._spawn("resolver self-test", partial(chores.assess_again, resolver, settings.dns, emit))

    def _ways(self, resolver: Resolver, web: ssl.SSLContext) -> Ways:
        return Ways(
            resolver=resolver,
            guard=self._guard,
            web=web,
            hostname=self._hostname,
            new_id=self._new_id,
            put=self._store.put,
            earlier=self._store.controls.stored_once,
        )

    @staticmethod
    async def _open(cache: StsCache) -> None:
        """Without the policies that are in force nothing may go out: an operator must look, and no mail is taken."""
        try:
            await cache.open()
        except StsCacheError as error:
            raise ValueError(str(error)) from None

    def _admin(self, worker: Worker, intake: Intake) -> AdminServer:
        given = self._settings.admin
        tokens = Tokens.load(given.tokens_file) if given.listen and given.tokens_file is not None else None
        sources = Sources(
            metrics=self._metrics,
            depth=lambda: self._store.depth(self._clock()),
            under_way=lambda: worker.under_way,
            check_writable=self._store.check_writable,
            clock=self._clock,
            emit=self._emit,
        )
        mail = Mail(
            submit=intake.submit,
            earlier=self._store.controls.stored_once,
            max_size=self._settings.clients.size_limit(self._settings.submission.max_message_size),
            hostname=self._hostname,
            clock=self._clock,
        )
        desk = Desk(
            tokens=tokens,
            controls=self._store.controls,
            route_of=partial(chosen_route, routes=self._routes),
            hostname=self._hostname,
            new_id=self._new_id,
            clock=self._clock,
            emit=self._emit,
            mail=mail,
        )
        return AdminServer(self._settings.admin, sources, Api(desk))

    def _warn(self) -> None:
        for setting, network in self._settings.exposures:
            self._emit(OpenRelay(setting, network))
        wanted = wanted_files(self._settings)
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if allowed != resource.RLIM_INFINITY and allowed < wanted:
            self._emit(FewFiles(allowed, wanted))

    def _finder(self, resolver: Resolver, cache: StsCache, web: ssl.SSLContext) -> StsFinder:
        fetcher = PolicyFetcher(resolver, self._settings.mta_sts.port, self._guard, web)
        finder = StsFinder(resolver, cache, fetcher, self._clock, self._emit)
        self._stack.push_async_callback(finder.close)
        return finder

    def _worker(
        self, resolver: Resolver, finder: StsFinder, memories: TlsMemories, roots_pem: bytes, own_name: str | None
    ) -> Worker:
        settings = self._settings
        pool = SessionPool()
        self._stack.push_async_callback(pool.close_all)
        signing = SigningDesk(settings, self._clock, self._emit, self._hearer)
        self._keys = signing.keys
        for what, work in signing.work:
            self._spawn(what, work)
        tools = Tools(
            router=Router(resolver, finder, settings.delivery, own_name, random.random, self._routes),
            guard=self._guard,
            contexts=ClientContexts(roots_pem),
            roots=Roots(roots_pem),
            pool=pool,
            sources=settings.sources(self._hostname),
            read=self._store.read,
            clock=self._clock,
            emit=self._emit,
            overrides=settings.overrides,
            limits=settings.limits,
            memories=memories,
            logins=logins_of(settings, self._emit),
            sign=signing.sign,
            public_addresses=settings.delivery.public_addresses,
            count=self._reporting.count,
        )

        def deliver(claim: Claim) -> Awaitable[Attempted]:
            return Attempt(claim, tools).run()

        limits = Limits(settings.delivery.concurrency, settings.limits)
        office = Office(
            schedules=settings.retry.schedules,
            hostname=self._hostname,
            clock=self._clock,
            new_id=self._new_id,
            draw=random.random,
            emit=self._emit,
            moves=self._routes.with_fallback,
            postmaster=settings.notices.postmaster,
        )
        self._reviewer = Reviewer(self._store, office)
        return Worker(self._store, deliver, limits, office)

    def _spawn(self, what: str, work: Work) -> None:
        task = asyncio.create_task(self._watch(what, work))

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(end)

    async def _watch(self, what: str, work: Work) -> None:
        """Run a part; should it ever break, report it and let the whole service end so that it is started anew."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  reported, and the service ends
            self._emit(DefectFound(what, repr(error)))
            self.failed.set()

    @staticmethod
    async def _end(worker: Worker, running: asyncio.Task[None]) -> None:
        await worker.stop(STOP_GRACE)
        await running


def run(settings: Settings, folder: Path, hostname: str) -> int:
    """Run the service until SIGTERM or SIGINT. Returns the exit code: 0, or 70 when a part of it broke.

    Raises what `App.start` raises when it can't begin.
    """
    _allow_files()
    gc.freeze()  # modules and settings live as long as we do: no need to look at them again and again
    gc.set_threshold(20_000, 20, 20)  # the default, 700, costs a tenth of the throughput
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(App(settings, folder, hostname)))


async def _serve(app: App) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, app.hang_up)
    await app.start()
    waits = [asyncio.create_task(event.wait()) for event in (stopping, app.failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    for number in _STOP_SIGNALS:  # a second one ends us at once, which the queue survives
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    await app.stop()
    return 70 if app.failed.is_set() else 0


def _allow_files() -> None:
    """As many open files as the system lets us have: each client, each delivery and each idle session has one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a limit above that of the kernel: then it stays as it was
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: less CPU, and a sixth of the memory for each TLS connection."""
    try:
        import uvloop  # noqa: PLC0415  (not on every machine)
    except ImportError:
        return None
    return uvloop.new_event_loop
