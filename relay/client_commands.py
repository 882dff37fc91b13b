"""`relay client`: who may send, as the settings have it. Nothing here needs the service. docs/clients.md."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.command import config_option, fail, load_without_files

if TYPE_CHECKING:
    from relay.mail.address import Address
    from relay.settings import Settings

_json = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.group()
def client() -> None:
    """Who may send what, as the settings have it."""


@client.command("list")
@_json
@config_option
def client_list(as_json: bool, file: Path | None) -> None:
    """Show the whole table, in its order, with the rows that the settings imply. The first that fits a client holds."""
    from relay import clients

    table = clients.rows(load_without_files(file))
    click.echo(clients.table_as_json(table) if as_json else clients.page(table))


@client.command("show")
@click.option("--address", required=True, metavar="IP", help="where it comes from")
@click.option("--login", metavar="NAME", help="as whom it has logged in; else it has not")
@click.option("--certificate", "certificates", multiple=True, metavar="NAME", help="a name in its certificate")
@click.option("--listener", metavar="NAME", help="the listener it comes to, `api` for HTTP; else the first")
@click.option("--sender", metavar="ADDRESS", help="may it send from here? <> is the null sender")
@click.option("--recipient", metavar="ADDRESS", help="may it send to there?")
@_json
@config_option
def client_show(sender: str | None, recipient: str | None, as_json: bool, file: Path | None, **who: Any) -> None:
    """Show which row holds for a client, and whether it may send that. Exit code 1: it may not.

    Quotas and DNS are not asked.
    """
    from relay import clients
    from relay.policy.clients import Peer
    from relay.submission.access import client_address

    settings = load_without_files(file)
    try:
        listener = _listener(settings, who["listener"])
        peer = Peer(client_address(who["address"]), listener, who["certificates"], who["login"])
    except ValueError as error:
        fail([f"relay: {error}"])
    senders = [] if sender is None else [None if sender == "<>" else _mailbox(sender)]
    recipients = [] if recipient is None else [_mailbox(recipient)]
    found = clients.judge(settings, peer, senders, recipients)
    click.echo(clients.judgement_as_json(found) if as_json else clients.judgement_page(found))
    sys.exit(1 if found.refused else 0)


def _listener(settings: Settings, name: str | None) -> str:
    from relay.settings import API_LISTENER

    known = [*(listener.name for listener in settings.listeners), API_LISTENER]
    if name is not None and name not in known:
        raise ValueError(f"there is no listener {name}; there are {', '.join(known)}")
    return name if name is not None else known[0]


def _mailbox(text: str) -> Address:
    from relay.mail.address import AddressError, parse_address

    try:
        found = parse_address(os.fsencode(text))
    except AddressError as error:
        fail([f"relay: {text}: {error}"])
    if not found.domain:
        fail([f"relay: {text}: the address has no @ and domain"])
    return found
