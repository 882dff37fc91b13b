"""How much each client with a quota has sent: held while a message is on its way in, counted when it is on disk.

What is counted in memory holds; it is written to two files in the queue folder soon after, for the next start. Without
files that work it is counted in memory alone. After damage, or while what was remembered of recipients cannot be read,
`new_recipients_per_day` learns for a day, or as long, and refuses nobody; the other limits hold all the time. What
counts together, and how, is decided in `relay.policy.quota`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from relay.disk_table import DiskTable, DiskTableError, Layout, Row, parse_time
from relay.events import Emit, QuotaFailed, QuotaReached
from relay.mail.address import Address
from relay.policy.clients import Grant, Peer, Quota
from relay.policy.quota import DAY, NOTHING, Bucket, Count, Limit, Over, Spent, account_of, over, recipient_key
from relay.write_behind import WriteBehind

FILE_NAMES = "quota.sqlite3", "recipients.sqlite3"
FORGET_AFTER = timedelta(days=180)  # a recipient who was not sent to
TELL_EVERY = timedelta(hours=1)
_REFRESH_AFTER = timedelta(days=7)  # what the file says of a recipient is that old at most
_MOST_IN_MEMORY = 10_000  # buckets, and limits that were told of
_WRITE_AFTER_SECONDS = 1.0
_DAMAGED = "damaged"  # the key of the row that says when that was; no hash is so short

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Account:
    """What an account has spent, and when it last did."""

    spent: Spent
    last: datetime


class Spending:
    """What one message takes of a quota: held until `accept` or `release`. Made by `Quotas.message`."""

    def __init__(self, quotas: Quotas, account: str, quota: Quota, peer: Peer) -> None:
        self._quotas = quotas
        self._account = account
        self._quota = quota
        self._peer = peer
        self._held = NOTHING
        self._keys: dict[str, bool] = {}  # of recipients, and whether they were new
        self._ended = False

    async def add(self, recipient: Address) -> Over | None:
        """Hold one more recipient, who must not be in the message yet. Returns which limit is in the way, if one is."""
        quota = self._quota
        if quota.recipients_per_day is None and quota.new_recipients_per_day is None:
            return None
        key, new = "", False
        if quota.new_recipients_per_day is not None:
            key = recipient_key(self._account, recipient)
            new = await self._quotas.is_new(key)
        sent = await self._quotas.sent(self._account)
        # no await from here on: others hold too
        more = Count(1, int(new))
        found = over(quota, sent.plus(self._quotas.held(self._account)), more)
        if found is not None:
            self._quotas.tell(found, self._account, self._peer)
        elif not self._ended:
            self._held = self._held.plus(more)
            if key:
                self._keys[key] = new
            self._quotas.hold(self._account, more)
        return found

    async def accept(self) -> None:
        """The message is on disk: count it. Whoever calls this must see to it that nobody calls `release` before."""
        try:
            if self._held != NOTHING:
                await self._quotas.count(self._account, self._held.recipients, self._keys)
        finally:
            self._let_go()

    def release(self) -> None:
        """There is no message: give back what was held. Nothing happens after `accept`."""
        if not self._ended and self._quota.messages_per_minute is not None:
            self._quotas.give_back(self._account)
        self._let_go()

    def _let_go(self) -> None:
        if not self._ended and self._held != NOTHING:
            self._quotas.hold(self._account, NOTHING.minus(self._held))
        self._ended = True


@dataclass(slots=True)
class _Unwritten:
    """What the files do not say yet."""

    accounts: dict[str, _Account] = field(default_factory=dict)
    recipients: dict[str, datetime] = field(default_factory=dict)


class Quotas:
    """All accounts. `folder` is the queue's. Nothing here raises for a file that does not work."""

    def __init__(self, folder: Path, clock: Callable[[], datetime], emit: Emit) -> None:
        self._clock = clock
        self._emit = emit
        self._accounts = DiskTable(folder, _ACCOUNTS, self._report)
        self._recipients = DiskTable(folder, _RECIPIENTS, self._report)
        self._held: dict[str, Count] = {}  # of messages on their way in
        self._buckets: dict[str, Bucket] = {}
        self._told: dict[tuple[str, Limit], datetime] = {}
        self._unwritten = _Unwritten()
        self._behind = WriteBehind(self._write, _WRITE_AFTER_SECONDS)
        self._learn_until: datetime | None = None
        self._damage_noted = False
        self._readable = True

    async def open(self) -> None:
        """Open the files or make them. A damaged one is moved aside."""
        for table in (self._accounts, self._recipients):
            try:
                await table.open()
            except DiskTableError as error:
                self._report(f"{error}; what clients send is counted until the service stops")
                self._learn_until = self._clock() + DAY
        self._note_damage()
        damaged_at = await self._read(self._recipients, _DAMAGED)
        if damaged_at is not None and self._learn_until is None:
            self._learn_until = damaged_at + DAY

    async def close(self) -> None:
        """Write what is in memory alone, and close the files."""
        await self._behind.now()
        await self._accounts.close()
        await self._recipients.close()

    async def tidy(self) -> None:
        """Forget what does not count any more. To be called again and again."""
        now = self._clock()
        self._readable = True
        await self._behind.now()
        await self._accounts.forget_before("last", _text(now - 2 * DAY))
        await self._recipients.forget_before("last", _text(now - FORGET_AFTER))
        self._told = {key: then for key, then in self._told.items() if now - then < TELL_EVERY}
        minute = timedelta(minutes=1)
        self._buckets = {account: one for account, one in self._buckets.items() if now - one.at < minute}

    def message(self, grant: Grant, peer: Peer) -> Spending | Over:
        """Begin a message of this client; or the limit that is in the way."""
        quota = grant.quota
        account = account_of(grant, peer)
        if quota.messages_per_minute is not None and not self._take(account, quota.messages_per_minute):
            found = Over(Limit.MESSAGES, quota.messages_per_minute)
            self.tell(found, account, peer)
            return found
        return Spending(self, account, quota, peer)

    # For Spending

    @property
    def learning(self) -> bool:
        """Whether recipients are learned, and none counts as new."""
        return self._learn_until is not None and self._clock() < self._learn_until

    async def is_new(self, key: str) -> bool:
        """Whether this recipient counts as new: not while nobody can say."""
        last = await self._read(self._recipients, key)
        self._note_damage()
        if self.learning or not self._readable:
            return False
        return self._is_new(last)

    def _is_new(self, last: datetime | None) -> bool:
        return last is None or self._clock() - last >= FORGET_AFTER

    async def sent(self, account: str) -> Count:
        """What counts of the last 24 hours."""
        found = await self._read(self._accounts, account)
        return NOTHING if found is None else found.spent.in_day(self._clock())

    def held(self, account: str) -> Count:
        """What is on its way in."""
        return self._held.get(account, NOTHING)

    def hold(self, account: str, more: Count) -> None:
        """Add to that, or take away."""
        left = self.held(account).plus(more)
        if left == NOTHING:
            self._held.pop(account, None)
        else:
            self._held[account] = left

    async def count(self, account: str, recipients: int, keys: Mapping[str, bool]) -> None:
        """Put a message to an account, and its recipients to those that are known: `keys`, and whether they were new.

        Who was new to two messages at once is so to the first.
        """
        now, new = self._clock(), 0
        for key, was_new in keys.items():
            last = await self._read(self._recipients, key)
            # no await from here on: another message may have the same recipient
            new += was_new and self._is_new(last)
            if last is None or now - last >= _REFRESH_AFTER:
                self._recipients.put_in_memory(key, now)
                self._unwritten.recipients[key] = now
        found = await self._read(self._accounts, account)
        # no await from here on: `found` must be the newest when it is replaced
        spent = Spent() if found is None else found.spent
        self._unwritten.accounts[account] = _Account(spent.plus(Count(recipients, new), now), now)
        self._accounts.put_in_memory(account, self._unwritten.accounts[account])
        self._behind.soon()

    def give_back(self, account: str) -> None:
        """A message that was begun will not come."""
        bucket = self._buckets.get(account)
        if bucket is not None:
            self._buckets[account] = bucket.changed(1)

    def tell(self, found: Over, account: str, peer: Peer) -> None:
        """Tell of a limit that was reached, once an hour."""
        now, key = self._clock(), (account, found.limit)
        then = self._told.get(key)
        if then is not None and now - then < TELL_EVERY:
            return
        _make_room(self._told)
        self._told[key] = now
        self._emit(QuotaReached(account, str(peer.address), peer.login, found.limit.value, found.most))

    def _take(self, account: str, per_minute: int) -> bool:
        now = self._clock()
        bucket = self._buckets.pop(account, Bucket(float(per_minute), now)).filled(per_minute, now)
        _make_room(self._buckets)
        may = bucket.tokens >= 1
        self._buckets[account] = bucket.changed(-1) if may else bucket
        return may

    async def _write(self) -> None:
        while self._unwritten.accounts or self._unwritten.recipients:
            now, self._unwritten = self._unwritten, _Unwritten()
            await self._accounts.put_all(now.accounts)
            if now.recipients:
                await self._recipients.put_all(now.recipients)

    async def _read(self, table: DiskTable[V], key: str) -> V | None:
        """None also when the file cannot be read now."""
        try:
            return await table.get(key)
        except DiskTableError as error:
            if self._readable:  # once is enough, until `tidy` has it tried again
                self._report(f"{error}; clients are counted anew, and new recipients are not counted until it can")
            self._readable = False
            return None

    def _note_damage(self) -> None:
        if self._recipients.lost and not self._damage_noted:
            self._damage_noted = True
            self._learn_until = self._clock() + DAY
            self._unwritten.recipients[_DAMAGED] = self._clock()
            self._behind.soon()

    def _report(self, reason: str) -> None:
        self._emit(QuotaFailed(reason))


def _make_room(kept: dict[Any, Any]) -> None:
    if len(kept) >= _MOST_IN_MEMORY:
        kept.pop(next(iter(kept)))


def _text(time: datetime) -> str:
    return time.replace(microsecond=0).isoformat()


def _encode_account(account: _Account) -> Row:
    slots = {str(number): [count.recipients, count.new] for number, count in account.spent.slots.items()}
    return json.dumps(slots, separators=(",", ":")), _text(account.last)


def _decode_account(row: Row) -> _Account:
    slots, last = row
    try:
        found = {int(number): Count(int(all_), int(new)) for number, (all_, new) in json.loads(slots or "").items()}
    except (AttributeError, TypeError):
        raise ValueError("no slots") from None
    return _Account(Spent(found), parse_time(last))


_ACCOUNTS = Layout(
    file_name=FILE_NAMES[0],
    table="account",
    key="name",
    columns=("slots", "last"),
    encode=_encode_account,
    decode=_decode_account,
    content="how much clients have sent",
    when_lost="what they sent before is not counted",
)
_RECIPIENTS = Layout(
    file_name=FILE_NAMES[1],
    table="recipient",
    key="hash",
    columns=("last",),
    encode=lambda last: (_text(last),),
    decode=lambda row: parse_time(row[0]),
    content="recipients that clients have sent to",
    when_lost="they are learned anew for a day, and nobody is refused for new ones",
)
