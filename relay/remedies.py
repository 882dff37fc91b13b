"""What keeps a recipient of which the cause is known, and what an operator can do about it. Values in, words out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.mail.outcome import Cause, State
from relay.policy.routing import PREFIX
from relay.queue.store import QueueEntry

_BECAUSE: Final[Mapping[Cause, str]] = {
    Cause.GREYLISTING: "the host puts off mail of servers that it does not know, and wants to see us come again",
    Cause.THROTTLING: "the host takes no more for now: too much, too fast, or too many at once",
    Cause.OUTAGE: "no mail host can be reached, or none stays until the end",
    Cause.DNS: "DNS does not say where the mail goes, or does not answer",
    Cause.TLS_POLICY: "a session as safe as is required could not be had; nothing was sent on a lesser one",
    Cause.REPUTATION: "the host mistrusts our address, our domain or the message",
    Cause.MAILBOX_FULL: "the mailbox is full",
    Cause.LOGIN: "there is no login for the next hop that could be used",
    Cause.LOCAL: "something on this server is missing, or is not as the settings say",
    Cause.UNKNOWN: "the reply to the whole message was lost: it may have arrived",
    Cause.OTHER: "the host gave a reason of its own",
}
# The same cause, where it is the host that said so.
_BECAUSE_IT_SAYS: Final[Mapping[Cause, str]] = {
    Cause.OUTAGE: "the host answers, and says that it is in trouble itself",
    Cause.DNS: "the host gets no good answer from DNS about this server, or about the sender",
    Cause.TLS_POLICY: "the host takes mail over TLS only, and with it none could be had",
    Cause.LOGIN: "the next hop does not take our name and password",
}


# {look}, {again} and {drop}: commands; {way}: the route or the destination.
_TO_DO: Final[Mapping[Cause, str]] = {
    Cause.GREYLISTING: "nothing: it goes by itself at one of the next attempts",
    Cause.THROTTLING: "nothing, where it is rare; else set at_once or messages_per_minute for {way}",
    Cause.OUTAGE: "{look} shows whether they are up; {again} does not wait for the next attempt",
    Cause.DNS: "{look} shows what DNS says now; `relay check`, whether our resolver works",
    Cause.TLS_POLICY: "{look} shows what is required and what is there; they mend it, or an [[override]] asks for less",
    Cause.REPUTATION: "have our address taken off the list that the host names, or mend what it names; then {again}",
    Cause.MAILBOX_FULL: "nothing: it is the recipient who has to tidy up",
    Cause.LOGIN: "mend the login of {way}; its file is read anew at each attempt; then {again}",
    Cause.LOCAL: "mend what the last result names; then {again}",
    Cause.UNKNOWN: "ask the recipient; if it came, {drop}; else it is tried again",
    Cause.OTHER: "read what the host said; {again} does not wait for the next attempt",
}
_TO_DO_AS_IT_SAYS: Final[Mapping[Cause, str]] = {
    Cause.OUTAGE: "nothing: they mend it; {again} does not wait for the next attempt",
    Cause.DNS: "see that our address and name, and the sender's domain, are in DNS: `relay check`",
    Cause.TLS_POLICY: "{look} shows what TLS with it comes to; when that is mended: {again}",
}


def because(cause: Cause, entry: QueueEntry) -> str:
    """Why it waits, in one sentence: the cause in words."""
    said = _BECAUSE_IT_SAYS.get(cause) if entry.reply else None
    return said or _BECAUSE[cause]


def remedy(entry: QueueEntry) -> str | None:
    """What can be done about it; None: nothing but waiting, and it is plain why."""
    if entry.state is State.HELD:
        first = "ask the recipient whether it came; " if entry.cause is Cause.UNKNOWN else ""
        return f"{first}`relay queue release {entry.id}` sends it; `relay queue fail` and `relay queue drop` end it"
    if entry.cause is None or entry.under_way:
        return None
    to_do = (_TO_DO_AS_IT_SAYS.get(entry.cause) if entry.reply else None) or _TO_DO[entry.cause]
    by_route = entry.destination.startswith(PREFIX)
    return to_do.format(
        look=f"`relay explain {entry.domain} --connect`",  # not the recipient: a stranger wrote that, for you to paste
        again=f"`relay queue retry {entry.id}`",
        drop=f"`relay queue drop {entry.id}`",
        way=f"[[route]] {entry.destination.removeprefix(PREFIX)}" if by_route else entry.destination,
    )
