"""What is counted: one table from events to numbers, and the numbers as Prometheus reads them (docs/metrics.md).

Labels have few values, all of them ours: never an address, a stranger's words, or a domain that the settings do not
name. Increments are bound once, since two events come with every message. Nothing global: a registry belongs to one
`Metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from relay import events
from relay.events import Emit, Event
from relay.mail.outcome import Cause, State, TlsUsed
from relay.policy.alignment import Kind
from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import PolicyType, Tally
from relay.queue.control import Act
from relay.queue.store import Depth

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Every temporary status that Relay itself gives; what hosts answer is counted as REMOTE.
OWN_STATUSES = (
    "4.3.0",
    "4.3.5",
    "4.4.1",
    "4.4.2",
    "4.4.3",
    "4.4.4",
    "4.4.8",
    "4.5.3",
    "4.7.4",
    "4.7.5",
    "4.7.6",
    "4.7.8",
    "4.7.10",
)
REMOTE, OTHER = "remote", "other"
SUCCESS = "success"
_SETTLED = (State.DELIVERED, State.DEFERRED, State.FAILED, State.DROPPED, State.HELD)
_NOT_READ = float("nan")

Count = Callable[[Any], None]


def _nothing(_: Event) -> None:
    """For events that are for the log alone."""


class Metrics:
    """All counters and gauges of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._attempts = self._per_attempt()
        self._deferrals = self._per_status()
        recipients = self._gauge(
            "relay_queue_recipients",
            "Recipients in the queue: due now, waiting for their time, in an attempt, on hold.",
            "state",
        )
        states = ("due", "waiting", "under_way", "held")
        self._due, self._waiting, self._under_way, self._held = map(recipients.labels, states)
        causes = self._gauge(
            "relay_queue_causes", "Recipients in the queue that were tried, by why they still wait.", "cause"
        )
        self._causes = {cause: causes.labels(cause.value) for cause in Cause}
        self._resting = self._gauge("relay_queue_resting_destinations", "Destinations that are down and rest.")
        self._oldest = self._gauge("relay_queue_oldest_seconds", "Age of the oldest message with an open recipient.")
        self._sessions = self._per_session()
        alignment = self._counter(
            "relay_alignment", "Messages taken or refused, by whether they will pass DMARC.", "verdict"
        )
        self._alignment = {kind: alignment.labels(kind.value).inc for kind in Kind}
        self._counts: dict[type[Event], Count] = self._table()

    def counting(self, emit: Emit) -> Emit:
        """An `Emit` that does what `emit` does, and counts the event."""
        counts = self._counts

        def emit_and_count(event: Event) -> None:
            emit(event)
            counts.get(type(event), _nothing)(event)

        return emit_and_count

    def count_alignment(self, kind: Kind) -> None:
        """One more message of which it was looked at whether it will pass DMARC. No event: most of them are well."""
        self._alignment[kind]()

    def decided(self) -> frozenset[type[Event]]:
        """The events of which it is settled how they count."""
        return frozenset(self._counts)

    def count_session(self, tally: Tally) -> None:
        """Count what a session is in a TLS report."""
        self._sessions[tally.policy.type, None if tally.fault is None else tally.fault.result]()

    def show_queue(self, depth: Depth | None, under_way: int, now: datetime) -> None:
        """Set the gauges of the queue. None: it could not be read, which is shown as NaN."""
        self._under_way.set(under_way)
        if depth is None:
            for gauge in (self._due, self._waiting, self._held, self._oldest, self._resting, *self._causes.values()):
                gauge.set(_NOT_READ)
            return
        self._due.set(depth.due)
        self._waiting.set(max(0, depth.open - depth.due - under_way))  # read at two moments
        self._held.set(depth.held)
        self._resting.set(depth.resting)
        waiting = dict(depth.causes)
        for cause, gauge in self._causes.items():
            gauge.set(waiting.get(cause, 0))
        age = now - depth.oldest if depth.oldest is not None else None
        self._oldest.set(0.0 if age is None else max(0.0, age.total_seconds()))

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(_WithoutCreationTimes(self._registry))

    def _table(self) -> dict[type[Event], Count]:
        """How each event counts. A new event belongs here, if only as `_nothing`; a test asks for it."""
        fetched = self._counter("relay_policy_fetches", "Fetches of MTA-STS policies, by result.", "result")
        notices = self._counter("relay_notices", "Notices put into the queue, by kind.", "kind")
        by_kind = {kind: notices.labels(kind).inc for kind in ("failure", "delay", "relayed", "undeliverable")}
        lost = self._counter(
            "relay_tls_lost", "Sessions without TLS with hosts that had it, by what was done.", "action"
        )
        by_action = {action: lost.labels(action).inc for action in ("delivered", "deferred")}
        reports = self._counter(
            "relay_tlsrpt_reports", "TLS reports, by how they go and what became of them.", "transport", "outcome"
        )
        for labels in (("mail", "sent"), ("mail", "given-up"), ("https", "sent"), ("https", "given-up")):
            reports.labels(*labels)
        for outcome in ("given-up", "unwanted"):
            reports.labels("none", outcome)
        turned_away = self._counter("relay_connections_refused", "Clients that were not let in: a limit, or no PROXY.")
        trusted = self._gauge(
            "relay_dnssec_trusted", "1: the resolver's word on DNSSEC is believed. 0: it is not, and DANE is off."
        )
        key_matches = self._gauge(
            "relay_dkim_key_matches",
            "Of each key of the settings that was compared: 1: DNS has it. 0: it has not.",
            "domain",
            "selector",
        )
        return {
            events.ServiceStarted: _nothing,
            events.ServiceStopped: _nothing,
            events.AdminStarted: _nothing,
            events.ListenerStarted: _nothing,
            events.OpenRelay: _nothing,
            events.FewFiles: _nothing,
            events.CertificateRenewed: _nothing,
            events.CertificateRefused: self._plain(
                "relay_certificate_refused", "Changed certificate files that could not be used."
            ),
            events.FileRefused: self._plain(
                "relay_file_refused", "Changed files of users, tokens or DKIM keys that could not be used."
            ),
            events.DnssecTrust: lambda event: trusted.set(event.trusted),
            events.MessageAccepted: self._plain("relay_messages_accepted", "Messages taken from clients."),
            events.SubmissionRefused: self._plain("relay_submission_refused", "Times a client was told no."),
            events.AuthenticationFailed: self._plain("relay_authentication_failed", "Logins of clients that failed."),
            events.LoginsBarred: self._plain(
                "relay_logins_barred", "Times an address or network had too many failed logins."
            ),
            events.LoginSourceFailed: self._plain(
                "relay_login_source_failed", "Times the login service or the issuer's keys could no longer be had."
            ),
            events.LoginSourceWorks: _nothing,
            events.ConnectionRefused: lambda event: turned_away.inc(1 + event.more),
            events.AlignmentWarning: _nothing,  # each message is counted
            events.QuotaReached: self._plain(
                "relay_quota_reached", "Times a client had sent all that its [[client]] lets it, once an hour for each."
            ),
            events.QuotaFailed: self._plain(
                "relay_quota_failures", "Times a file of what clients have sent could not be read or written."
            ),
            events.AttemptFinished: self._count_attempt,
            events.MessageUnsigned: self._plain(
                "relay_messages_unsigned", "Times a message went out without a DKIM signature that it should have had."
            ),
            events.DkimKeyRenewed: _nothing,
            events.DestinationRests: self._plain(
                "relay_destination_rests", "Times a destination was found to be down and let rest."
            ),
            events.DestinationReached: _nothing,
            events.PolicyTestFailed: self._plain(
                "relay_policy_test_failed", "Sessions that an MTA-STS policy in testing mode would have refused."
            ),
            events.PolicyOverridden: self._plain(
                "relay_policy_overridden", "Sessions that a published policy would have refused, but for an override."
            ),
            events.OverrideEnded: _nothing,
            events.TlsLost: lambda event: by_action[event.action](),
            events.TlsMemoryFailed: self._plain(
                "relay_tls_memory_failures", "Times the file of hosts that have TLS could not be read or written."
            ),
            events.TlsReportSent: lambda event: reports.labels(event.transport, "sent").inc(),
            events.TlsReportGivenUp: lambda event: reports.labels(event.transport, "given-up").inc(),
            events.TlsReportsUnwanted: lambda event: reports.labels("none", "unwanted").inc(event.domains),
            events.TlsReportsUnsigned: _nothing,
            events.TlsReportsFailed: self._plain(
                "relay_tlsrpt_failures", "Times the file of TLS reports could not be read or written, or was full."
            ),
            events.PolicyFetched: _each(fetched.labels("fetched").inc),
            events.PolicyChanged: _nothing,
            events.PolicyFetchFailed: _each(fetched.labels("failed").inc),
            events.PolicyCacheFailed: self._plain(
                "relay_policy_cache_failures", "Times the file of MTA-STS policies could not be read or written."
            ),
            events.LoginRefused: self._plain(
                "relay_login_failed", "Times that a host of a route stopped taking the login."
            ),
            events.LoginWorks: _nothing,
            events.DkimKeyMatches: lambda event: key_matches.labels(event.domain, event.selector).set(1),
            events.DkimKeyMismatch: lambda event: key_matches.labels(event.domain, event.selector).set(0),
            events.DkimKeyUnknown: _nothing,  # what was known before stays
            events.NoticeQueued: lambda event: by_kind[event.kind](),
            events.QueueAction: self._count_action(),
            events.AdminRefused: self._plain(
                "relay_admin_refused", "Requests to the API without a token that was good for them."
            ),
            events.BounceUndeliverable: self._plain(
                "relay_bounces_undeliverable", "Recipients of messages without a sender that have failed."
            ),
            events.StoreFailed: self._plain("relay_store_failures", "Times the queue could not be read or written."),
            events.DefectFound: self._plain("relay_defects", "Programming errors met. Please report them."),
        }

    def _per_session(self) -> dict[tuple[PolicyType, ReportResult | None], Callable[[], None]]:
        counter = self._counter(
            "relay_tlsrpt_sessions",
            "Sessions, and failures before there was one, as TLS reports count them; under each policy that held.",
            "policy",
            "result",
        )
        return {
            (policy, result): counter.labels(policy.value, SUCCESS if result is None else result.value).inc
            for policy in PolicyType
            for result in (None, *ReportResult)
        }

    def _count_action(self) -> Count:
        counter = self._counter(
            "relay_queue_actions", "Recipients that operators have acted on through the API, by action.", "action"
        )
        by_action = {act.value: counter.labels(act.value).inc for act in Act}
        return lambda event: by_action[event.action](event.recipients)

    def _count_attempt(self, event: events.AttemptFinished) -> None:
        self._attempts[event.state, event.tls]()
        if event.state == State.DEFERRED.value:
            whose = event.status if event.reply is None else REMOTE
            self._deferrals.get(whose, self._deferrals[OTHER])()

    def _per_attempt(self) -> dict[tuple[str, str], Callable[[], None]]:
        counter = self._counter(
            "relay_recipients",
            "Recipients after an attempt: what became of them, and how the last session was protected.",
            "state",
            "tls",
        )
        pairs = [(state.value, tls.value) for state in _SETTLED for tls in TlsUsed]
        return {pair: counter.labels(*pair).inc for pair in pairs}

    def _per_status(self) -> dict[str, Callable[[], None]]:
        counter = self._counter(
            "relay_deferrals",
            "Recipients deferred, by Relay's own status; remote: the host's answer was temporary.",
            "status",
        )
        return {status: counter.labels(status).inc for status in (*OWN_STATUSES, REMOTE, OTHER)}

    def _plain(self, name: str, meaning: str) -> Count:
        return _each(self._counter(name, meaning).inc)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        """A counter that is shown as `name` with `_total`."""
        return Counter(name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self._registry)


class _WithoutCreationTimes:
    """The registry without the time at which each counter was made, which is that of the start for all of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def _each(increment: Callable[[], None]) -> Count:
    return lambda _: increment()
