"""The commands: what a person types, turned into calls of the parts, and every expected mistake into lines and a code.

Exit codes: 0 it is so, 1 what was asked about is not well, 2 it could not be asked (settings, files, arguments).
Every command imports what it needs when it runs, so that `relay --version` and `relay config check` are quick.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from relay import __version__
from relay.act_commands import queue
from relay.client_commands import client
from relay.command import config_option, fail, load, load_without_files, queue_folder
from relay.dkim_commands import dkim
from relay.send_command import send
from relay.tlsrpt_commands import tlsrpt
from relay.user_commands import user

if TYPE_CHECKING:
    from relay.settings import Settings

HEALTH_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command, by default that of the process's arguments, and exit."""
    if arguments is None and Path(sys.argv[0]).name == "sendmail":
        _sendmail(sys.argv[1:])
    try:
        relay(args=arguments, prog_name="relay")
    except Exception as error:
        problems = _expected(error)
        if problems is None:
            raise
        fail(problems)
    raise AssertionError("click exits by itself")


def _expected(error: Exception) -> Sequence[str] | None:
    """The lines that tell of a mistake of the person or the machine; None for one of ours."""
    from relay.config import ConfigError
    from relay.queue.store import QueueError, StoreUnavailable

    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # what we print has no room
        return [f"relay: {error.strerror}"]
    return [f"relay: {error}"] if isinstance(error, QueueError | StoreUnavailable) else None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay", message="%(prog)s %(version)s")
def relay() -> None:
    """A sending mail server: takes mail in, keeps it safe on disk, delivers it as securely as the other side asks."""


@relay.command()
@config_option
def run(file: Path | None) -> None:
    """Take and deliver mail until SIGTERM or Ctrl-C."""
    from relay import app
    from relay.config import hostname, state_folder

    settings = load(file)
    folder = state_folder(settings, os.environ)
    try:
        code = app.run(settings, folder, hostname(settings))
    except OSError as error:  # an address in use
        fail([f"relay: {error.strerror or error}"])
    except ValueError as error:  # a certificate that does not fit its key
        fail([f"relay: {error}"])
    sys.exit(code)


@relay.command()
@config_option
def health(file: Path | None) -> None:
    """Ask the running service for its greeting, at every listener; for HEALTHCHECK of a container."""
    import asyncio

    from relay.health import problems, where_to_ask

    listeners = where_to_ask(load_without_files(file))
    if not listeners:
        fail(["relay: every listener has port 0 or is a socket of systemd; the settings can't tell where that is"])
    found = asyncio.run(problems(listeners, HEALTH_SECONDS))
    for problem in found:
        click.echo(problem, err=True)
    if found:
        sys.exit(1)


@relay.command()
@click.option("--connect", "target", metavar="DOMAIN|HOST:PORT", help="call these mail hosts: does port 25 go out?")
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
@config_option
def check(target: str | None, as_json: bool, file: Path | None) -> None:
    """Look at everything that Relay needs: name, DNS, DANE, queue, certificate, ports. Says what to do."""
    import asyncio

    from relay import finding
    from relay.check import look, parse_target
    from relay.config import hostname, state_folder
    from relay.findings import settings_read

    settings = load_without_files(file)
    try:
        call = None if target is None else parse_target(target, settings.delivery.port)
    except ValueError as error:
        fail([f"relay: {error}"])
    folder = state_folder(settings, os.environ)
    seen = asyncio.run(look(settings, folder, hostname(settings), datetime.now(UTC), call))
    found = (settings_read(file), *seen)
    click.echo(finding.as_json(found) if as_json else finding.page(found), nl=as_json)
    if call is None and settings.delivery.next_hop is None and not as_json:
        click.echo("\nWhether port 25 goes out was not tried: --connect DOMAIN calls the mail hosts of a domain.")
    sys.exit(1 if finding.worst(found) is finding.Level.FAIL else 0)


@relay.command("explain")
@click.argument("target", metavar="ADDRESS|DOMAIN", required=False)
@click.option("--from", "author", metavar="DOMAIN", help="instead: will mail with this domain in From pass DMARC?")
@click.option("--connect", is_flag=True, help="call each mail host, look at its TLS, and hang up before MAIL")
@click.option("--sender", metavar="ADDRESS", help="of mail from this address; with --from, or domain")
@click.option("--login", metavar="NAME", help="of mail from a client that logged in under this name")
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
@config_option
def explain_way(  # noqa: PLR0913, PLR0917  (each is an option)
    target: str | None,
    author: str | None,
    connect: bool,
    sender: str | None,
    login: str | None,
    as_json: bool,
    file: Path | None,
) -> None:
    """Show the way to a domain: its mail hosts, what it publishes, and what follows. Sends nothing.

    Without --sender it is that of mail without one (a notice); with --from, of mail from that domain.
    """
    import asyncio

    if (target is None) is (author is None):
        fail(["relay: give the domain that mail goes to, or --from and the domain that it comes from"])
    if author is not None:
        if connect or login is not None:
            fail(["relay: --connect and --login are for the way to a domain, not for --from"])
        _explain_from(author, sender, as_json, file)
    assert target is not None  # noqa: S101  (for the type checker)

    from relay import explained
    from relay.config import hostname, state_folder
    from relay.explain import explain
    from relay.mail.address import Address, AddressError, parse_address, parse_domain
    from relay.policy.explanation import Question

    settings = load_without_files(file)
    try:
        domain = parse_domain(target.rpartition("@")[2].removesuffix("."))
        whose = parse_address(os.fsencode(sender)) if sender else None
        asked = Question(Address("", domain, domain), whose, login)
        folder = state_folder(settings, os.environ)
        name = hostname(settings) if connect else settings.hostname  # else it is only compared
        found = asyncio.run(explain(settings, folder, name, asked, lambda: datetime.now(UTC), connect=connect))
    except AddressError as error:
        fail([f"relay: {error}"])
    except (OSError, ValueError) as error:  # the file of authorities
        fail([f"relay: {error}"])
    click.echo(explained.as_json(found) if as_json else explained.page(found), nl=as_json)


def _explain_from(author: str, sender: str | None, as_json: bool, file: Path | None) -> NoReturn:
    import asyncio

    from relay import explained_from
    from relay.config import hostname
    from relay.explain_from import explain_from
    from relay.mail.address import AddressError, parse_address, parse_domain

    settings = load_without_files(file)
    try:
        domain = parse_domain(author.rpartition("@")[2].removesuffix("."))
        envelope = author if sender is None else sender
        if "@" not in envelope and envelope:
            envelope = f"postmaster@{parse_domain(envelope.removesuffix('.'))}"
        whose = parse_address(os.fsencode(envelope)) if envelope else None
        if domain.startswith("["):
            raise AddressError(f"{domain} is no domain")
    except AddressError as error:
        fail([f"relay: {error}"])
    found = asyncio.run(explain_from(settings, hostname(settings), domain, whose, datetime.now(UTC)))
    click.echo(explained_from.as_json(found) if as_json else explained_from.page(found), nl=as_json)
    sys.exit(explained_from.exit_code(found))


@relay.command("trace")
@click.argument("name", metavar="MESSAGE_ID|QUEUE_ID")
@click.option("--json", "as_json", is_flag=True, help="print a JSON list of objects")
@config_option
def trace_message(name: str, as_json: bool, file: Path | None) -> None:
    """Show the life of a message: each attempt, what was required, seen and said, and what happens next."""
    from relay import trace
    from relay.queue.visitor import open_reader

    with closing(open_reader(queue_folder(file))) as reader:
        found = reader.trace(name)
    if not found:
        click.echo(f"relay: no message with the queue id or Message-ID {name} is kept", err=True)
        sys.exit(1)
    click.echo(trace.as_json(found) if as_json else trace.page(found, datetime.now(UTC)), nl=as_json)


@relay.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments: tuple[str, ...]) -> None:
    """A small internet on this machine: sends mail to domains of every kind and shows what becomes of it."""
    from relay.lab.command import lab as command

    command(args=list(arguments), prog_name="relay lab")


@relay.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sendmail(arguments: tuple[str, ...]) -> None:
    """Send the message on standard input, as cron, PHP and mutt expect of sendmail: docs/sendmail.md."""
    _sendmail(arguments)


def _sendmail(arguments: Sequence[str]) -> NoReturn:
    from relay.sendmail_command import main as command

    sys.exit(int(command(arguments, datetime.now(UTC))))


@relay.group()
def policy() -> None:
    """What this server's own settings say of the TLS of destinations."""


@policy.command("list")
@click.option("--json", "as_json", is_flag=True, help="print a JSON list")
@config_option
def policy_list(as_json: bool, file: Path | None) -> None:
    """Show every override: whom it is for, what it asks, why, who answers for it, and whether it is in force."""
    from relay import policies

    overrides = load_without_files(file).overrides.entries
    show = policies.as_json if as_json else policies.page
    click.echo(show(overrides, datetime.now(UTC)))


@relay.group()
def config() -> None:
    """The settings: an example of all of them, and a check."""


@config.command("example")
def config_example() -> None:
    """Print a settings file with every setting, described, at its default."""
    from relay.config import example

    click.echo(example(), nl=False)


@config.command("check")
@click.argument("file", envvar="RELAY_CONFIG", required=False, type=click.Path(path_type=Path, readable=False))
def config_check(file: Path | None) -> None:
    """Name every mistake in FILE (or $RELAY_CONFIG) and in the RELAY_ variables of the environment."""
    settings = load(file)
    problems = list(_unusable(settings))
    if problems:
        fail(problems)
    place = file if file is not None else "the environment (no settings file)"
    click.echo(f"{place}: no mistakes found")
    for setting, network in settings.exposures:
        warning = f"WARNING, an open relay: {setting} lets {network} send to anyone, without a login"
        click.echo(f"{place}: {warning}", err=True)
    unsigned = settings.unsigned_reports
    if unsigned is not None:
        warning = f"WARNING: no [[dkim_key]] signs mail from {unsigned}: TLS reports go by HTTPS alone"
        click.echo(f"{place}: {warning}", err=True)


def _unusable(settings: Settings) -> Iterable[str]:
    """What is wrong inside the files that the settings name."""
    from relay.admin.tokens import Tokens
    from relay.submission.users import Users
    from relay.tls import load_roots, server_contexts

    given = settings.submission
    try:
        if given.tls_certificate is not None and given.tls_key is not None:
            server_contexts(given.tls_certificate, given.tls_key, given.client_ca_file)
    except ValueError as error:
        yield str(error)
    try:
        if settings.tls.ca_file is not None:
            load_roots(settings.tls.ca_file)
    except ValueError as error:
        yield str(error)
    try:
        if given.users_file is not None:
            Users.load(given.users_file)
    except ValueError as error:
        yield str(error)
    try:
        if settings.admin.tokens_file is not None:
            Tokens.load(settings.admin.tokens_file)
    except ValueError as error:
        yield str(error)


@relay.group()
def admin() -> None:
    """The API and who may use it."""


@admin.command("token")
@click.argument("name")
@click.option("--scope", type=click.Choice(["read", "write", "send"]), default="write", help="what it is good for")
@click.option("--file", "tokens", metavar="FILE", type=click.Path(path_type=Path), help="the tokens file")
@config_option
def admin_token(name: str, scope: str, tokens: Path | None, file: Path | None) -> None:
    """Make a token under NAME, or a new one in its place, and print it: it is kept nowhere, only its hash.

    The file is that of --file, or the settings' admin.tokens_file.
    """
    from relay.admin.tokens import Scope, add_token

    path = tokens if tokens is not None else load_without_files(file).admin.tokens_file
    if path is None:
        fail(["relay: admin.tokens_file is not set; name the file with --file"])
    try:
        text = add_token(path, name, Scope(scope))
    except OSError as error:
        fail([f"{path}: cannot be written: {error.strerror}"])
    except ValueError as error:
        fail([f"relay: {error}"])
    click.echo(text)


relay.add_command(queue)
relay.add_command(send)
relay.add_command(user)
relay.add_command(client)
relay.add_command(dkim)
relay.add_command(tlsrpt)
