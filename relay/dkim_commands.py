"""`relay dkim`: keys that sign mail, and what DNS has of them. docs/dkim.md."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.command import config_option, fail, load_without_files

if TYPE_CHECKING:
    from relay.lookup.dkim import Checked
    from relay.settings import Settings
    from relay.signing.keys import KeyTable, SigningKey
    from relay.signing_settings import DkimKeySettings

_RSA, _ED25519 = "rsa", "ed25519"
_LEAST_BITS, _MOST_BITS = 2048, 4096  # RFC 8301 section 3.2

_json = click.option("--json", "as_json", is_flag=True, help="print a JSON list of objects")


@click.group()
def dkim() -> None:
    """Keys that sign mail, and what DNS has of them."""


@dkim.command("keygen")
@click.option("--domain", required=True, metavar="DOMAIN", help="domain of From whose mail it is to sign")
@click.option("--selector", metavar="NAME", help="name of the DNS record; else one made of the date")
@click.option("--type", "kind", type=click.Choice([_RSA, _ED25519]), default=_RSA, show_default=True)
@click.option("--bits", type=click.IntRange(_LEAST_BITS, _MOST_BITS), help="of an RSA key", show_default="2048")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="or a folder for DOMAIN.SELECTOR.pem")
def dkim_keygen(domain: str, selector: str | None, kind: str, bits: int | None, out: Path | None) -> None:
    """Make a key, and print what belongs into the settings and into DNS. It goes over no file that is there."""
    from relay.dkim_page import new_key

    if kind == _ED25519 and bits is not None:
        fail(["relay: an Ed25519 key has no --bits: all are of one length"])
    place = _place(domain, selector or _selector_of_today(kind), out)
    _write(place.key_file, kind, bits or _LEAST_BITS)
    click.echo(new_key(_key(place), place.key_file))
    _tell_who_reads(place.key_file)


@dkim.command("show")
@click.option("--domain", metavar="DOMAIN", help="the keys of this domain; else all")
@click.option("--selector", metavar="NAME", help="the keys with this selector; else all")
@click.option("--form", type=click.Choice(["zone", "plain"]), default="zone", show_default=True, help="of the records")
@_json
@config_option
def dkim_show(domain: str | None, selector: str | None, form: str, as_json: bool, file: Path | None) -> None:
    """Show the DNS record of each key in the settings. DNS is not asked. Exit code 1: there is no such key."""
    from relay import dkim_page

    wanted = _names(domain, selector)
    given = [one for one in load_without_files(file).dkim_key if _is_one_of(one, *wanted)]
    keys = [_key(one) for one in given]
    if as_json:
        click.echo(dkim_page.as_json(keys))
    elif keys:
        click.echo(dkim_page.page(keys, dkim_page.Form(form)))
    else:
        click.echo("relay: the settings have no such [[dkim_key]]", err=True)
    sys.exit(0 if keys else 1)


@dkim.command("check")
@_json
@config_option
def dkim_check(as_json: bool, file: Path | None) -> None:
    """Ask DNS for each key in the settings. Exit code 1: DNS does not have one of them; 2: that is not known."""
    import asyncio

    from relay import dkim_findings, finding

    settings = load_without_files(file)
    checked = asyncio.run(_ask(settings, _table(settings)))
    found = dkim_findings.keys(checked)
    click.echo(dkim_findings.as_json(checked) if as_json else finding.page(found), nl=as_json)
    sys.exit(dkim_findings.exit_code(checked))


def _names(domain: str | None, selector: str | None) -> tuple[str | None, str | None]:
    """Both in the form that the settings have."""
    from relay.setting_types import host_name
    from relay.signing_settings import selector_name

    option = "--domain"
    try:
        whose = None if domain is None else host_name(domain)
        option = "--selector"
        return whose, None if selector is None else selector_name(selector)
    except ValueError as error:
        fail([f"relay: {option}: {error}"])


def _is_one_of(one: DkimKeySettings, domain: str | None, selector: str | None) -> bool:
    return domain in (None, one.domain) and selector in (None, one.selector)


def _selector_of_today(kind: str) -> str:
    """A selector is never used twice; of one day, there may be a key of each type."""
    day = f"relay{datetime.now(UTC):%Y%m%d}"
    return day if kind == _RSA else f"{day}-{kind}"


def _place(domain: str, selector: str, out: Path | None) -> DkimKeySettings:
    """The table of the new key."""
    from relay.mail.address import AddressError, parse_domain
    from relay.signing_settings import DkimKeySettings

    whose, name = _names(domain, selector)
    path = out if out is not None else Path()
    path = (path / f"{whose}.{name}.pem" if path.is_dir() else path).absolute()
    if not str(path).isprintable():
        fail(["relay: --out: the settings cannot have such a path"])
    given = DkimKeySettings.model_validate({"domain": whose, "selector": name, "key_file": path})
    try:
        parse_domain(f"{name}._domainkey.{whose}")
    except AddressError as error:
        fail([f"relay: the name of the record, {name}._domainkey.{whose}: {error}"])
    return given


def _write(path: Path, kind: str, bits: int) -> None:
    from relay.files import new_secret_file
    from relay.signing.keygen import KeyType, new_key

    if not path.parent.is_dir():
        fail([f"relay: {path.parent} is not a folder: make it first, for the service's user alone (docs/dkim.md)"])
    try:
        new_secret_file(path, new_key(KeyType(kind), bits))
    except FileExistsError:
        fail([f"relay: {path} is there already, and a key is never written over: name another with --out"])
    except OSError as error:
        fail([f"{path}: cannot be written: {error.strerror}"])


def _tell_who_reads(path: Path) -> None:
    """A service that cannot read its key does not start."""
    from pwd import getpwuid

    owner = path.stat().st_uid
    try:
        name = getpwuid(owner).pw_name
    except KeyError:
        name = f"the user {owner}"
    said = f"{path} can be read by {name} alone: run the service as that user, or give it the file (chown)"
    click.echo(f"\n{said}", err=True)


def _key(given: DkimKeySettings) -> SigningKey:
    from relay.signing.keys import UnusableKey, load_key, with_remedy

    found = load_key(given)
    if isinstance(found, UnusableKey):
        fail([f"relay: {with_remedy(found.reason, given)}"])
    return found


def _table(settings: Settings) -> KeyTable:
    from relay.signing.keys import KeyTable

    return KeyTable([_key(one) for one in settings.dkim_key])


async def _ask(settings: Settings, keys: KeyTable) -> tuple[Checked, ...]:
    from relay.lookup.dkim import check_keys
    from relay.lookup.resolver import Resolver

    resolver = Resolver(settings.dns.nameservers, settings.dns.timeout)
    try:
        return await check_keys(resolver, keys, settings.tlsrpt.report_domain)
    finally:
        await resolver.close()
