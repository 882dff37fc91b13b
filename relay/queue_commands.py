"""`relay queue`: what a person types, turned into filters, acts and pages. docs/queue.md.

The same options say which mail is meant, everywhere. Acts go to the database itself, so they work while the service
runs and when it does not.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay.command import config_option, fail, load_without_files, queue_folder

if TYPE_CHECKING:
    from relay.mail.address import Address
    from relay.mail.message import MessageId
    from relay.queue.control import Action, Tally
    from relay.queue.selection import QueueFilter
    from relay.queue.store import QueueEntry
    from relay.queue.visitor import QueueReader
    from relay.settings import Settings

PAGE = 1000  # recipients that are read and shown together

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = {
    "sender": ("ADDRESS", "from this address, @domain, or <> for the null sender; * is anything"),
    "recipient": ("ADDRESS", "to this address or @domain; * is anything"),
    "domain": ("DOMAIN", "to recipients of this domain; * is anything"),
    "destination": ("NAME", "by way of this domain or route:NAME; * is anything"),
    "cause": ("CAUSE", "that wait for this cause: greylisting, outage, tls-policy and so on"),
    "state": ("STATE", "queued, deferred, held, delivered, failed or dropped; may be given several times"),
    "status": ("STATUS", "whose last attempt came to this status, or one that begins so: 4.7.5, 4.7"),
    "older_than": ("AGE", "that arrived so long ago or longer: 90s, 15m, 4h, 5d"),
    "younger_than": ("AGE", "that arrived so long ago or less"),
    "login": ("NAME", "that a client sent under this name"),
    "limit": ("NUMBER", "the first so many recipients"),
}
_MANY = ("state",)


def filter_options(command: F) -> F:
    """The options that say which mail is meant, and the ids; the command gets them as `given`."""
    for name, (metavar, meaning) in reversed(_OPTIONS.items()):
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, name, metavar=metavar, multiple=name in _MANY, help=meaning)(command)
    return click.argument("ids", nargs=-1, metavar="[ID]...")(command)


_json = click.option("--json", "as_json", is_flag=True, help="print JSON")
_dry_run = click.option("--dry-run", is_flag=True, help="count what would be done, and change nothing")
_all = click.option("--all", "everything", is_flag=True, help="all mail that waits")
_reason = click.option("--reason", metavar="TEXT", help="why, for whoever looks later")


@click.group()
def queue() -> None:
    """The mail that waits."""


@queue.command("list")
@filter_options
@click.option("--history", is_flag=True, help="also what was delivered and what failed")
@_json
@config_option
def queue_list(ids: tuple[str, ...], history: bool, as_json: bool, file: Path | None, **options: Any) -> None:
    """Show each recipient of each waiting message: what was tried, what was said, and when it goes on."""
    from relay import show
    from relay.mail.outcome import State
    from relay.queue.visitor import open_reader

    selection = _selection(ids, options)
    if history and not selection.states:
        selection = replace(selection, states=tuple(State))
    with closing(open_reader(queue_folder(file))) as reader:
        if as_json:
            _print_json(_pages(reader, selection))
            return
        recipients, messages, last = 0, 0, None
        for entries in _pages(reader, selection):
            click.echo(show.table(entries, datetime.now(UTC), show.terminal_width(sys.stdout), recipients == 0))
            recipients += len(entries)
            messages += len({entry.id for entry in entries} - {last})
            last = entries[-1].id
    if not recipients:
        click.echo("No mail fits." if ids or any(options.values()) else "The queue is empty.")
        return
    click.echo(f"\n{show.count(recipients, 'recipient')} in {show.count(messages, 'message')}")


def _print_json(pages: Iterator[tuple[QueueEntry, ...]]) -> None:
    """A list of objects, printed while it is read."""
    from relay.queue.objects import of_entry

    separator = "["
    for entries in pages:
        for entry in entries:
            text = json.dumps(of_entry(entry), indent=2).replace("\n", "\n  ")
            click.echo(f"{separator}\n  {text}", nl=False)
            separator = ","
    click.echo("\n]" if separator == "," else "[]")


def _pages(reader: QueueReader, selection: QueueFilter) -> Iterator[tuple[QueueEntry, ...]]:
    """Some at a time, each read for itself: whoever reads slowly must not hold up the service's writing."""
    from relay.queue.selection import Cursor

    left = selection.limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        entries = reader.select(replace(selection, limit=size))
        if entries:
            yield entries
        if len(entries) < size:
            return
        selection = replace(selection, after=Cursor(entries[-1].id.number, entries[-1].number))
        left = None if left is None else left - size


def _act(name: str, meaning: str) -> Callable[[F], click.Command]:
    """A command that does something with the mail that its options say."""

    def decorate(function: F) -> click.Command:
        function.__doc__ = meaning
        for decorator in (config_option, _json, _dry_run, _all, filter_options):
            function = decorator(function)
        return queue.command(name)(function)

    return decorate


@_act("hold", "Hold mail: nothing is tried until it is released.")
@_reason
def queue_hold(reason: str | None, **given: Any) -> None:
    """Keep mail back."""
    _perform("hold", given, reason=reason)


@_act("release", "Release mail that is held: it is due now.")
@_reason
def queue_release(reason: str | None, **given: Any) -> None:
    """Let mail go on."""
    _perform("release", given, reason=reason)


@_act("retry", "Try mail now, not at its time.")
def queue_retry(**given: Any) -> None:
    """Make mail due."""
    _perform("retry", given)


@_act("fail", "Give mail up: it is not tried again, and its sender gets a notice.")
@_reason
def queue_fail(reason: str | None, **given: Any) -> None:
    """Return mail."""
    _perform("fail", given, reason=reason)


@_act("drop", "Drop mail: it is not tried again, and nobody is told.")
@_reason
def queue_drop(reason: str | None, **given: Any) -> None:
    """Throw mail away."""
    _perform("drop", given, reason=reason)


@_act("reroute", "Send mail another way: it is due now, by that way.")
@click.option(
    "--to", metavar="ROUTE|direct|HOST:PORT|default", required=True, help="where; default: as the settings say"
)
def queue_reroute(to: str, **given: Any) -> None:
    """Choose the way of mail."""
    _perform("reroute", given, to=to)


def _perform(name: str, given: Mapping[str, Any], reason: str | None = None, to: str | None = None) -> None:
    """Do it, and say what became of it."""
    from relay.config import hostname, state_folder
    from relay.queue import visitor
    from relay.queue.control import Act, Action
    from relay.queue.giving_up import composer
    from relay.queue.objects import of_tally

    options = {field: given[field] for field in _OPTIONS}
    named = bool(given["ids"]) or any(options.values())
    if named is given["everything"]:
        raise click.UsageError("give the ID of a message or an option that says which mail is meant, or --all")
    selection = _selection(given["ids"], options)
    settings = load_without_files(given["file"])
    route = None if to is None else _route(settings, to)
    action = Action(Act(name), selection, _who(), reason, route, given["dry_run"])
    now = datetime.now(UTC)
    compose = composer(hostname(settings) if action.act is Act.FAIL else "", _ids(now), now)
    tally = visitor.perform(state_folder(settings, os.environ), action, now, compose, _destination)
    if given["as_json"]:
        click.echo(json.dumps(of_tally(action, tally), indent=2))
    elif tally.recipients or given["everything"]:
        _tell(action, tally)
    else:
        ids = " and ".join(given["ids"])
        click.echo(f"relay: no mail waits under the id {ids}" if ids else "relay: no mail fits", err=True)
    if not tally.done and not tally.under_way and not given["everything"]:
        sys.exit(1)


def _tell(action: Action, tally: Tally) -> None:
    """What was done, or would be, and what was left alone."""
    from relay.show import count

    participle, already = _DONE[action.act.value]
    if tally.done or not tally.recipients:
        verb = "would be" if action.dry_run else "is" if tally.done == 1 else "are"
        what = f"{count(tally.done, 'recipient')} in {count(tally.done_messages, 'message')}"
        click.echo(f"{what} {verb} {participle}")
    if tally.notices:
        click.echo(f"{count(len(tally.notices), 'notice')} to senders")
    if tally.under_way:
        being = "recipient is" if tally.under_way == 1 else "recipients are"
        click.echo(f"{tally.under_way} {being} being tried at this moment, and left alone")
    if tally.unfit:
        click.echo(f"{count(tally.unfit, 'recipient')} left as before: {already}")
    if action.dry_run:
        click.echo("Nothing was changed: --dry-run.")


# What has become of mail, and why other mail was left as it was.
_DONE = {
    "hold": ("held", "held already"),
    "release": ("released, and due now", "not held"),
    "retry": ("due now", "held"),
    "fail": ("given up", ""),
    "drop": ("dropped", ""),
    "reroute": ("rerouted", ""),
}


def _selection(ids: tuple[str, ...], options: Mapping[str, Any]) -> QueueFilter:
    """The filter that was typed; a mistake in it ends the command."""
    from relay.queue.selection import FilterError, read_filter

    given = {"id": ids} | {field: value if field in _MANY else (value,) for field, value in options.items() if value}
    try:
        return read_filter(given, datetime.now(UTC))
    except FilterError as error:
        option = "" if error.field == "id" else f"--{error.field.replace('_', '-')} "
        fail([f"relay: {option}{error.problem}"])


def _who() -> str:
    """Who acts: with sudo, who called it."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def _ids(now: datetime) -> Callable[[], MessageId]:
    """Queue ids for notices."""
    from relay.mail.message import MessageId

    numbers = count_from(MessageId.make(now, secrets.randbits(16)).number)
    return lambda: MessageId(next(numbers))


def _route(settings: Settings, to: str) -> str | None:
    """What is written down as the chosen route; None: what the settings say. A mistake ends the command."""
    del settings
    return None if to == "default" else to


def _destination(sender: Address | None, login: str | None, recipient: Address, chosen: str | None) -> str:
    del sender, login
    return recipient.domain if chosen in (None, "direct") else f"route:{chosen}"
