"""How one attempt stands: which recipients are still open, what each host said of them, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.delivery.counting import Counting
from relay.delivery.evidence import Trail
from relay.delivery.results import refused
from relay.mail.message import Claim, Recipient
from relay.mail.outcome import Deferred, Failed, Outcome
from relay.policy.mx import conclude
from relay.policy.routing import Hop
from relay.policy.source import Source
from relay.policy.verdict import Refuse

# In one attempt. Far above what honest domains have, since a host that is never reached might be the one that works.
MAX_SESSIONS = 20  # connections that came up
MAX_ADDRESSES = 60  # connections tried

Note = tuple[frozenset[int], Deferred | Failed]  # the recipients that it is about, by index


@dataclass(slots=True)
class Standing:
    """See the module. `domain`: whose overrides hold; `hop`: the route that is tried."""

    claim: Claim
    source: Source
    domain: str
    counting: Counting
    hop: Hop | None = None
    trail: Trail = field(default_factory=Trail)
    open: dict[int, Recipient] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    sessions: int = 0
    addresses: int = 0

    def begin(self, party: Iterable[Recipient]) -> None:
        """These recipients are tried from here on."""
        self.open = {recipient.index: recipient for recipient in party}
        self.domain = next(iter(self.open.values())).address.domain
        self.sessions = self.addresses = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is anything left to do, and room to do it."""
        return bool(self.open) and self.sessions < MAX_SESSIONS and self.addresses < MAX_ADDRESSES

    def note(self, note: Deferred | Failed, index: int | None = None) -> None:
        """What a host said, or why it said nothing: of one recipient, or of all that are open."""
        self.notes.append((frozenset(self.open) if index is None else frozenset({index}), note))

    def pass_over(self, host: str, why: Refuse | Deferred | Failed) -> None:
        """A host is not called."""
        self.trail.not_called(host, why)
        self.note(refused(why, host) if isinstance(why, Refuse) else why)

    def close(self, index: int, outcome: Outcome) -> None:
        """The last word on one recipient."""
        self.outcomes[index] = outcome
        del self.open[index]

    def close_all(self, outcome: Outcome) -> None:
        """The last word on all that are open."""
        self.outcomes.update(dict.fromkeys(self.open, outcome))
        self.open.clear()

    def conclude(self) -> None:
        """No host is left: what was said of those that are still open comes to an outcome."""
        for index in self.open:
            self.outcomes[index] = conclude([note for indexes, note in self.notes if index in indexes])
