"""`relay lab`: plays the scenarios and prints a table, or keeps the lab running for others to test against."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from relay.lab.catalogue import ALL
from relay.lab.clock import LabClock
from relay.lab.play import Progress, Result, play
from relay.lab.scenario import Scenario
from relay.lab.world import PASSWORD, SENDER_DOMAIN, USER, Addresses, World
from relay.log import log_lines

HEADINGS = ("", "scenario", "the domain publishes", "what must become of its mail", "code", "TLS", "time")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@click.option("--only", metavar="NAME", multiple=True, help="play this scenario only (may be repeated)")
@click.option("--list", "list_only", is_flag=True, help="print the names of the scenarios, a line each")
@click.option("--serve", is_flag=True, help="keep the lab running until Ctrl-C, as a test harness")
def lab(as_json: bool, only: tuple[str, ...], list_only: bool, serve: bool) -> None:
    """A small internet on this machine: sends mail to domains of every kind and shows what becomes of it."""
    if serve and (as_json or list_only):
        raise click.UsageError("--serve plays no scenarios: --json and --list go without it")
    scenarios = chosen(only)
    if list_only:
        width = max(len(scenario.name) for scenario in scenarios)
        for scenario in scenarios:
            click.echo(f"{scenario.name:{width}}  {scenario.publishes}")
        return
    with tempfile.TemporaryDirectory(prefix="relay-lab-") as folder:
        if serve:
            asyncio.run(_serve(scenarios, Path(folder)))
            return
        results = play(scenarios, Path(folder), _progress())
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    click.echo(json.dumps(as_object(results), indent=2, ensure_ascii=False) if as_json else table(results))
    if not all(result.ok for result in results):
        sys.exit(1)


def chosen(only: Sequence[str]) -> tuple[Scenario, ...]:
    """The scenarios of these names, or all of them. Raises click.UsageError for a name that there is not."""
    names = {scenario.name for scenario in ALL}
    unknown = [name for name in only if name not in names]
    if unknown:
        raise click.UsageError(f"no scenario is called {', '.join(unknown)}; `relay lab --list` shows them all")
    return tuple(scenario for scenario in ALL if not only or scenario.name in only)


def as_object(results: Sequence[Result]) -> dict[str, object]:
    """The results as the JSON object that `--json` prints."""
    passed = sum(result.ok for result in results)
    scenarios = [
        {
            "name": result.scenario.name,
            "publishes": result.scenario.publishes,
            "expected": result.expected,
            "seen": result.seen,
            "code": result.code,
            "tls": result.tls,
            "seconds": result.seconds,
            "ok": result.ok,
        }
        for result in results
    ]
    return {"scenarios": scenarios, "passed": passed, "failed": len(results) - passed}


def table(results: Sequence[Result]) -> str:
    """The results as a table for people; below a scenario that differs, what was seen."""
    rows = [HEADINGS]
    for result in results:
        scenario, mark = result.scenario, "ok" if result.ok else "DIFFERS"
        time = f"{result.seconds:.2f} s"
        rows.append((mark, scenario.name, scenario.publishes, result.expected, result.code, result.tls, time))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for number, result in reversed(list(enumerate(results, 1))):
        if not result.ok:
            lines.insert(number + 1, f"{'':{widths[0]}}  seen: {result.seen}")
    lines.insert(1, "  ".join("-" * width for width in widths))
    failed = sum(not result.ok for result in results)
    lines += [
        "",
        f"{len(results) - failed} of {len(results)} scenarios as expected." + f" {failed} differ." * bool(failed),
    ]
    return "\n".join(lines)


def _progress() -> Progress:
    """One line on standard error that changes in place on a terminal; elsewhere a line for each new step."""
    last = ""

    def show(text: str) -> None:
        nonlocal last
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        elif text.partition(":")[0] != last:
            last = text.partition(":")[0]
            click.echo(f"lab: {last}", err=True)

    return show


async def _serve(scenarios: tuple[Scenario, ...], folder: Path) -> None:
    world = World(scenarios, folder, LabClock(), log_lines())
    addresses = await world.start()
    try:
        click.echo(directions(scenarios, addresses))
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await stopping.wait()
    finally:
        await world.stop()


def directions(scenarios: Sequence[Scenario], addresses: Addresses) -> str:
    """What a person or a script needs to use the lab as a test harness."""
    lines = [
        f"submission  {addresses.submission}  (STARTTLS; no password needed from this machine)",
        f"user        {USER}, password {PASSWORD}",
        f"resolver    {addresses.resolver}",
        f"CA file     {addresses.ca_file}",
        f"settings    {addresses.settings_file}  (for `relay queue list --config` and such)",
        f"mail hosts  port {addresses.mail_port}; policy hosts port {addresses.policy_port}",
        f"sender      anything@{SENDER_DOMAIN} has a mailbox for notices and TLS reports",
        "domains",
        *(f"  {scenario.domain:28} {scenario.publishes}" for scenario in scenarios),
        "Stop with Ctrl-C.",
    ]
    return "\n".join(lines)
