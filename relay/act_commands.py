"""`relay queue hold` and the other acts, and hold rules: what a person types, turned into acts. docs/queue.md.

Acts go to the database itself, so they work while the service runs and when it does not.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay.command import config_option, fail, load_without_files, queue_folder
from relay.queue_commands import OPTIONS, filter_options, json_option, options_for, queue, say_none, selection, typed

if TYPE_CHECKING:
    from relay.mail.message import MessageId
    from relay.policy.routing import Routes
    from relay.queue.control import Action, Tally

__all__ = ["queue"]  # with the acts in it

F = TypeVar("F", bound=Callable[..., Any])

_dry_run = click.option("--dry-run", is_flag=True, help="count what would be done, and change nothing")
_all = click.option("--all", "everything", is_flag=True, help="all mail that waits")
_reason = click.option("--reason", metavar="TEXT", help="why, for whoever looks later")
_reason_told = click.option("--reason", metavar="TEXT", help="why: the sender reads it in the notice")


def _act(name: str, meaning: str) -> Callable[[F], click.Command]:
    """A command that does something with the mail that its options say."""

    def decorate(function: F) -> click.Command:
        function.__doc__ = meaning
        for decorator in (config_option, json_option, _dry_run, _all, filter_options):
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


@_act("fail", "Give mail up: its sender gets a notice.")
@_reason_told
def queue_fail(reason: str | None, **given: Any) -> None:
    """Return mail."""
    _perform("fail", given, reason=reason)


@_act("drop", "Drop mail: nobody is told.")
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
    from relay.config import hostname
    from relay.queue import visitor
    from relay.queue.control import Act, Action
    from relay.queue.giving_up import composer
    from relay.queue.objects import of_tally

    options = {field: given[field] for field in OPTIONS}
    named = bool(given["ids"]) or bool(typed(options))
    if named is given["everything"]:
        raise click.UsageError("give the ID of a message or an option that says which mail is meant, or --all")
    wanted = selection(given["ids"], options)
    settings = load_without_files(given["file"])
    route = None if to is None else _route(to, settings.routes)
    action = Action(Act(name), wanted, _who(), reason, route, given["dry_run"])
    now = datetime.now(UTC)
    compose = composer(hostname(settings) if action.act is Act.FAIL else "", _ids(now), now)
    tally = visitor.perform(queue_folder(given["file"]), action, now, compose, settings.routes.destination)
    if given["as_json"]:
        click.echo(json.dumps(of_tally(action, tally), indent=2))
    elif tally.recipients or given["everything"]:
        _tell(action, tally)
    else:
        say_none(given["ids"])
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
    "retry": ("due now", "held, or not to go before a time, as the sender asked"),
    "fail": ("given up", ""),
    "drop": ("dropped", ""),
    "reroute": ("rerouted", ""),
}


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


def _route(to: str, routes: Routes) -> str | None:
    """What is written down as the chosen route; None: what the settings say. A mistake ends the command."""
    from relay.rerouting import chosen_route

    try:
        return chosen_route(to, routes)
    except ValueError as error:
        fail([f"relay: --to {error}"])


@queue.group("hold-rule")
def hold_rule() -> None:
    """Mail to come that is held when it comes in."""


@hold_rule.command("add")
@options_for(("sender", "recipient", "domain", "login"))
@click.option("--reason", metavar="TEXT", required=True, help="why, for whoever looks later")
@config_option
def hold_rule_add(file: Path | None, reason: str, **options: Any) -> None:
    """Hold new mail that fits all the options. What waits already: `relay queue hold`."""
    from relay.queue import visitor
    from relay.queue.hold_rules import HoldRule

    if not typed(options):
        raise click.UsageError("give an option that says which mail is to be held")
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    fits = selection((), options)
    rule = HoldRule(fits.sender, fits.recipient, fits.domain, fits.login, reason, datetime.now(UTC))
    click.echo(f"hold rule {visitor.add_hold_rule(queue_folder(file), rule)} is in force")


@hold_rule.command("list")
@json_option
@config_option
def hold_rule_list(as_json: bool, file: Path | None) -> None:
    """Show every rule."""
    from relay.queue.objects import of_hold_rule
    from relay.queue.visitor import open_reader
    from relay.show import clean

    with closing(open_reader(queue_folder(file))) as reader:
        rules = reader.hold_rules()
    if as_json:
        click.echo(json.dumps([of_hold_rule(rule) for rule in rules], indent=2))
        return
    for rule in rules:
        found = of_hold_rule(rule)
        fits = ", ".join(f"{name} {found[name]}" for name in ("sender", "recipient", "domain", "login") if found[name])
        click.echo(clean(f"{rule.id}  {fits}: {rule.reason} (since {rule.made:%Y-%m-%d %H:%M} UTC)"))
    if not rules:
        click.echo("There are no hold rules.")


@hold_rule.command("remove")
@click.argument("number", type=click.IntRange(min=1, max=(1 << 63) - 1))
@config_option
def hold_rule_remove(number: int, file: Path | None) -> None:
    """Hold no more what rule NUMBER says. What it has held stays held: `relay queue release`."""
    from relay.queue import visitor

    if not visitor.remove_hold_rule(queue_folder(file), number):
        click.echo(f"relay: there is no hold rule {number}", err=True)
        sys.exit(1)
    click.echo(f"hold rule {number} is removed")
