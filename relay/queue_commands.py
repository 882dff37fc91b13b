"""`relay queue`: what a person types, turned into filters, acts and pages. docs/queue.md.

The same options say which mail is meant, everywhere. Acts go to the database itself, so they work while the service
runs and when it does not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from relay.command import config_option, fail, load_without_files, queue_folder

if TYPE_CHECKING:
    from relay.queue.selection import QueueFilter
    from relay.queue.store import QueueEntry
    from relay.queue.visitor import QueueReader

SHOWN_GROUPS = 20  # of each kind in `relay queue stats`, unless it is said otherwise
PAGE = 1000  # recipients that are read and shown together

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = {
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
MANY = ("state",)


def options_for(names: Iterable[str]) -> Callable[[F], F]:
    """These of OPTIONS."""

    def decorate(command: F) -> F:
        for name in reversed(tuple(names)):
            (metavar, meaning), option = OPTIONS[name], f"--{name.replace('_', '-')}"
            command = click.option(option, name, metavar=metavar, multiple=name in MANY, help=meaning)(command)
        return command

    return decorate


def filter_options(command: F) -> F:
    """The options that say which mail is meant, and the ids; the command gets them as `given`."""
    return click.argument("ids", nargs=-1, metavar="[ID]...")(options_for(OPTIONS)(command))


json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.group()
def queue() -> None:
    """What waits, why, and what is to be done about it."""


@queue.command("list")
@filter_options
@click.option("--history", is_flag=True, help="also what was delivered and what failed")
@json_option
@config_option
def queue_list(ids: tuple[str, ...], history: bool, as_json: bool, file: Path | None, **options: Any) -> None:
    """Show what waits: what was tried, what was said, and when it goes on, for each recipient of each message."""
    from relay import show
    from relay.mail.outcome import State
    from relay.queue.visitor import open_reader

    wanted = selection(ids, options)
    if history and not wanted.states:
        wanted = replace(wanted, states=tuple(State))
    folder = queue_folder(file)
    with closing(open_reader(folder)) as reader:
        if as_json:
            _print_json(_pages(reader, wanted))
            return
        recipients, messages, last, rests = 0, 0, None, reader.rests()
        for entries in _pages(reader, wanted):
            now, width = datetime.now(UTC), show.terminal_width(sys.stdout)
            click.echo(show.table(entries, now, width, recipients == 0, rests))
            recipients += len(entries)
            messages += len({entry.id for entry in entries} - {last})
            last = entries[-1].id
    if not recipients:
        click.echo("No mail fits." if ids or typed(options) else "The queue is empty.")
        return
    click.echo(f"\n{show.count(recipients, 'recipient')} in {show.count(messages, 'message')}{_stopped(folder)}")


def _stopped(folder: Path) -> str:
    """A line more, where no service runs."""
    from relay.queue.folder import holder

    with suppress(OSError):
        return "" if holder(folder) is not None else "\nNo service runs: nothing is tried before it is started."
    return ""


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


def _pages(reader: QueueReader, wanted: QueueFilter) -> Iterator[tuple[QueueEntry, ...]]:
    """Some at a time, each read for itself: whoever reads slowly must not hold up the service's writing."""
    from relay.queue.selection import Cursor

    left = wanted.limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        entries = reader.select(replace(wanted, limit=size))
        if entries:
            yield entries
        if len(entries) < size:
            return
        wanted = replace(wanted, after=Cursor(entries[-1].id.number, entries[-1].number))
        left = None if left is None else left - size


@queue.command("show")
@filter_options
@json_option
@config_option
def queue_show(ids: tuple[str, ...], as_json: bool, file: Path | None, **options: Any) -> None:
    """Explain why a message waits.

    For each recipient: cause, words, rule, next attempt, route, holds, notices.
    """
    from relay.mail.outcome import State
    from relay.queue.folder import holder
    from relay.queue.objects import of_message
    from relay.queue.visitor import open_reader
    from relay.show import terminal_width
    from relay.waiting import Scene, page

    if not ids and not typed(options):
        raise click.UsageError("give the ID of a message, or an option that says which mail is meant")
    wanted = selection(ids, options)
    if ids and not wanted.states:
        wanted = replace(wanted, states=tuple(State))  # what has left is explained too
    folder, now, shown = queue_folder(file), datetime.now(UTC), 0
    settings = load_without_files(file)
    with closing(open_reader(folder)) as reader:
        found = list(dict.fromkeys(entry.id for entries in _pages(reader, wanted) for entry in entries))
        rests = reader.rests()
        try:
            service: bool | None = holder(folder) is not None
        except OSError:
            service = None
        scene = Scene(now, rests, service, settings.retry.schedules, settings.limits)
        width = terminal_width(sys.stdout)
        for trace in (trace for id in found for trace in reader.trace(str(id))):
            if as_json:
                text = json.dumps(of_message(trace, rests), indent=2).replace("\n", "\n  ")
                click.echo(f"{',' if shown else '['}\n  {text}", nl=False)
            else:
                click.echo(f"{chr(10) if shown else ''}{page(trace, scene, width)}", nl=False)
            shown += 1
    if as_json:
        click.echo("\n]" if shown else "[]")
    if not shown:
        say_none(ids, "is kept")


@queue.command("cat")
@click.argument("id")
@config_option
def queue_cat(id: str, file: Path | None) -> None:
    """Print a message that waits, header and body, as it was taken."""
    from relay.queue.visitor import open_reader

    (number,) = selection((id,), {}).ids
    with closing(open_reader(queue_folder(file))) as reader:
        pieces = reader.octets(number)
        if pieces is None:
            say_none((id,))
        try:
            for piece in pieces:
                click.echo(piece, nl=False)
        except FileNotFoundError:  # it has left meanwhile
            say_none((id,))


@queue.command("stats")
@filter_options
@json_option
@config_option
def queue_stats(ids: tuple[str, ...], as_json: bool, file: Path | None, limit: str | None, **options: Any) -> None:
    """Show what waits in figures.

    By destination, by cause and by sender, with ages. --limit: the largest so many of each.
    """
    from relay import figures
    from relay.queue.objects import of_stats
    from relay.queue.visitor import open_reader
    from relay.show import terminal_width

    top = selection((), {"limit": limit}).limit or (None if as_json else SHOWN_GROUPS)
    now = datetime.now(UTC)
    with closing(open_reader(queue_folder(file))) as reader:
        stats = reader.stats(selection(ids, options), now, top)
    click.echo(
        json.dumps(of_stats(stats), indent=2) if as_json else figures.page(stats, now, terminal_width(sys.stdout))
    )


def say_none(ids: tuple[str, ...], kept: str = "waits") -> NoReturn:
    """Nothing was found of what `waits`, or `is kept`."""
    named = f"no mail {kept} under the id {' and '.join(ids)}" if ids else "no mail fits"
    click.echo(f"relay: {named}", err=True)
    sys.exit(1)


def typed(options: Mapping[str, Any]) -> list[str]:
    """The options that were given, also those with an empty value: a shell's variable that is not set is a mistake."""
    return [field for field, value in options.items() if value not in (None, ())]


def selection(ids: tuple[str, ...], options: Mapping[str, Any]) -> QueueFilter:
    """The filter that was typed; a mistake in it ends the command."""
    from relay.queue.selection import FilterError, read_filter

    given = {"id": ids} | {field: options[field] if field in MANY else (options[field],) for field in typed(options)}
    try:
        return read_filter(given, datetime.now(UTC))
    except FilterError as error:
        option = "" if error.field == "id" else f"--{error.field.replace('_', '-')} "
        fail([f"relay: {option}{error.problem}"])
