"""`relay tlsrpt`: what domains would be told today, and telling them now. docs/tls-reports.md."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.command import config_option, fail, load_without_files, queue_folder

if TYPE_CHECKING:
    from relay.tlsrpt.reader import OfDomain
    from relay.tlsrpt.report import Reporter
    from relay.tlsrpt.request import Result

_PATIENCE_SECONDS = 70.0  # a web address has 60 to answer


@click.group()
def tlsrpt() -> None:
    """TLS reports: what other domains are told, once a day, of TLS with them."""


@tlsrpt.command("show")
@click.argument("domain", required=False)
@click.option("--day", "text", metavar="DAY", default="today", help="in UTC: 2030-01-31, today (default) or yesterday")
@click.option("--json", "as_json", is_flag=True, help="with DOMAIN the report as it would go or went; else a list")
@config_option
def tlsrpt_show(domain: str | None, text: str, as_json: bool, file: Path | None) -> None:
    """Show what DOMAIN is told of a day; without DOMAIN, all domains and what became of their reports."""
    from relay import tlsrpt_page
    from relay.reporting import reporter
    from relay.tlsrpt import reader
    from relay.tlsrpt.store import ReportStoreError

    us = reporter(load_without_files(file))
    if us is None:
        fail(["relay: TLS reports are off: tlsrpt.organization is not set"])
    today = datetime.now(UTC).date()
    day = _day(text, today)
    folder = queue_folder(file)
    try:
        if domain is not None:
            whose = _name(domain)
            _show(us, day, whose, reader.of_domain(folder, day, whose), as_json, day == today)
        else:
            found = reader.of_day(folder, day)
            click.echo(
                tlsrpt_page.of_day_as_json(day, found) if as_json else tlsrpt_page.of_day(day, found, day == today)
            )
    except ReportStoreError as error:
        fail([f"relay: {error}"])


def _show(us: Reporter, day: date, domain: str, found: OfDomain, as_json: bool, is_today: bool) -> None:
    from relay import tlsrpt_page
    from relay.tlsrpt.report import build_report, report_id

    preview = build_report(report_id(day, "preview", us), day, found.counts, us) if found.counts else None
    if as_json:
        document = preview or next(filter(None, map(tlsrpt_page.told, reversed(found.ended))), None)
        if document is not None:
            click.echo(json.dumps(document, indent=2))
            return
    elif preview is not None or found.ended:
        click.echo(tlsrpt_page.of_domain(domain, day, preview, found.ended, is_today))
        return
    click.echo(f"relay: nothing is counted of {domain} on {day.isoformat()} (UTC)", err=True)
    sys.exit(1)


@tlsrpt.command("send")
@click.argument("domains", metavar="[DOMAIN ...]", nargs=-1)
@click.option(
    "--now", "is_now", is_flag=True, required=True, help="not at the domain's moment after the end of the day"
)
@click.option("--day", "text", metavar="DAY", default="today", help="in UTC: 2030-01-31, today (default) or yesterday")
@click.option("--json", "as_json", is_flag=True, help="as JSON")
@config_option
def tlsrpt_send(domains: tuple[str, ...], is_now: bool, text: str, as_json: bool, file: Path | None) -> None:
    """Have the running service tell each DOMAIN of a day at once; without DOMAIN, all of which something is counted.

    What is counted later that day goes into another report.
    """
    from relay import tlsrpt_page
    from relay.queue.folder import holder
    from relay.reporting import reporter

    if reporter(load_without_files(file)) is None:
        fail(["relay: TLS reports are off: tlsrpt.organization is not set"])
    day, names = _day(text, datetime.now(UTC).date()), tuple(dict.fromkeys(map(_name, domains)))
    folder = queue_folder(file)
    try:
        runs = holder(folder) is not None
    except OSError as error:
        fail([f"relay: {folder}: {error.strerror}"])
    if not runs:
        fail(["relay: no service runs, and it is the service that sends reports"])
    results = _request(folder, day, names)
    if results is None:
        click.echo(f"relay: the service has not taken it up within {_PATIENCE_SECONDS:g} seconds", err=True)
        sys.exit(1)
    click.echo(tlsrpt_page.of_results_as_json(day, results) if as_json else tlsrpt_page.of_results(day, results))
    sys.exit(0 if all(one.arrived for one in results) else 1)


def _request(folder: Path, day: date, domains: tuple[str, ...]) -> tuple[Result, ...] | None:
    import asyncio

    from relay.tlsrpt.request import request
    from relay.tlsrpt.store import ReportStore, ReportStoreError

    async def ask() -> tuple[Result, ...] | None:
        store = ReportStore(folder, lambda words: click.echo(f"relay: {words}", err=True))
        try:
            return await request(store, day, domains, _PATIENCE_SECONDS)
        finally:
            await store.close()

    try:
        return asyncio.run(ask())
    except ReportStoreError as error:
        fail([f"relay: {error}"])


def _day(text: str, today: date) -> date:
    words = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        day = words.get(text) or date.fromisoformat(text)
    except ValueError:
        fail([f"relay: {text} is no day: give one as 2030-01-31, today or yesterday"])
    if day > today:
        fail([f"relay: {day.isoformat()} has not begun: in UTC it is {today.isoformat()}"])
    return day


def _name(text: str) -> str:
    from relay.mail.address import AddressError, parse_domain

    try:
        return parse_domain(text.rpartition("@")[2].removesuffix("."))
    except AddressError as error:
        fail([f"relay: {error}"])
