"""`relay send`: a message by hand, to see what becomes of it. docs/sendmail.md."""

from __future__ import annotations

import mimetypes
import re
import secrets
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from getpass import GetPassWarning
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.command import config_option, fail, load_without_files

if TYPE_CHECKING:
    from relay.mail.letter import Letter, Mailbox
    from relay.posting.compose import Author, Draft
    from relay.posting.place import Server
    from relay.settings import Settings

_FILE = click.Path(path_type=Path, dir_okay=False)
_QUEUED = re.compile(r"queued as ([0-9a-z]+)\Z")
_TLS = ("starttls", "required", "implicit", "none")


def _many(*names: str, metavar: str, help: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(*names, metavar=metavar, help=f"{help}; may be given several times", multiple=True, **more)


@click.command()
@_many("--to", "recipients", metavar="ADDRESS", help="who gets it", required=True)
@click.option("--from", "sender", metavar="ADDRESS", help="sender and author, else USER@HOSTNAME; `<>`: no sender")
@click.option("--subject", default="A test of Relay", show_default=True)
@click.option("--body", "text", metavar="TEXT", help="else standard input, unless that is a terminal")
@_many("--attach", "files", metavar="FILE", help="a file to go with it", type=_FILE)
@_many("--header", "headers", metavar="'NAME: VALUE'", help="a field for the header")
@click.option("--data", metavar="FILE", type=_FILE, help="the message as it is, in place of the five before")
@click.option("--server", metavar="HOST:PORT", help="where to; else where `relay sendmail` sends")
@click.option("--tls", type=click.Choice(_TLS), default=_TLS[0], show_default=True, help="how SERVER is spoken to")
@click.option("--user", metavar="NAME", help="log in there; the password is asked for, unless a file has it")
@click.option("--password-file", metavar="FILE", type=_FILE)
@click.option("--ca-file", metavar="FILE", type=_FILE, help="authorities besides the system's")
@click.option("--requiretls", is_flag=True, help="only over TLS, all the way (RFC 8689)")
@click.option("--notify", metavar="WORDS", help="never, or some of success,failure,delay (RFC 3461)")
@click.option("--verbose", "-v", is_flag=True, help="show the dialogue")
@config_option
def send(file: Path | None, **given: Any) -> None:
    """Send a message by hand, and say under which id it is in the queue."""
    from relay.config import hostname
    from relay.posting.arguments import BadUsage, read_notify
    from relay.posting.deliver import Asked, deliver
    from relay.sendmail_command import author_of

    settings = load_without_files(file)
    helo = hostname(settings)
    notify = read_notify(given["notify"]) if given["notify"] is not None else None
    if isinstance(notify, BadUsage):
        raise click.UsageError(f"--notify: {notify.problem}")
    draft = _draft(given, author_of(None, helo))
    server = _server(settings, given, helo)
    asked = Asked(notify=notify, requiretls=given["requiretls"])
    result = deliver(draft, server, asked, click.echo if given["verbose"] else None)
    for reply in result.replies:
        found = _QUEUED.search(reply.text)
        click.echo(f"queued as {found[1]}; what becomes of it: relay trace {found[1]}" if found else reply.text)
    for line in result.lines:
        click.echo(f"relay: {line}", err=True)
    sys.exit(int(result.exit))


def _draft(given: Mapping[str, Any], author: Author) -> Draft:
    from relay.mail.address import AddressError
    from relay.mail.letter import LetterError, write
    from relay.posting.compose import DataError, Wish, as_it_is, compose

    sender = given["sender"] if given["sender"] != "<>" else ""
    wish = Wish(sender, given["recipients"], extract=False, dot_ends=False)
    now = datetime.now(UTC)
    try:
        if given["data"] is not None:
            return as_it_is(given["data"].read_bytes(), wish, author)
        return compose(write(_letter(given, author, now)), wish, author, now, secrets.token_hex(12))
    except (LetterError, DataError, AddressError) as error:
        click.echo(f"relay: {error}", err=True)
        sys.exit(65)
    except OSError as error:
        fail([f"{error.filename}: cannot be read: {error.strerror}"])


def _letter(given: Mapping[str, Any], author: Author, now: datetime) -> Letter:
    from relay.mail.letter import Attachment, Letter, read_mailbox

    def mailbox(text: str) -> Mailbox:
        return read_mailbox(text if "@" in text else f"{text}@{author.domain}")

    headers = [header.partition(":") for header in given["headers"]]
    if not all(colon for _, colon, _ in headers):
        raise click.UsageError("--header: must be a name, a colon and a value")
    files = [(path, mimetypes.guess_type(path.name)[0] or "application/octet-stream") for path in given["files"]]
    text = given["text"]
    if text is None:
        text = "" if sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8", "replace")
    return Letter(
        author=mailbox(given["sender"] if given["sender"] not in (None, "<>") else author.user),
        date=now,
        message_id=f"{secrets.token_hex(12)}@{author.domain}",
        to=tuple(mailbox(recipient) for recipient in given["recipients"]),
        subject=given["subject"],
        text=text,
        headers=tuple((name.strip(), value.strip()) for name, _, value in headers),
        attachments=tuple(Attachment(path.name, kind, path.read_bytes()) for path, kind in files),
    )


def _server(settings: Settings, given: Mapping[str, Any], helo: str) -> Server:
    """That of the settings, with its login; what options name gets a login from options only."""
    from relay.posting.place import Server, is_loopback, own_listener
    from relay.sendmail_command import server_of
    from relay.submission_settings import ListenerTls, SendmailSettings

    if given["server"] is None and given["user"] is None:
        return server_of(settings, helo)
    password = _password(given) if given["user"] is not None else ""
    if given["server"] is None:
        own = own_listener(settings)
        if own is None:
            fail(["relay: no listener of this relay can be reached from here; name one with --server"])
        return Server(*own, helo, given["user"] or "", password, given["ca_file"], here=True)
    try:
        address = SendmailSettings.model_validate({"server": given["server"]}).server
        assert address is not None  # noqa: S101
    except (ValueError, AssertionError):
        raise click.UsageError("--server: must be host:port") from None
    here = is_loopback(address.host)
    return Server(address, ListenerTls(given["tls"]), helo, given["user"] or "", password, given["ca_file"], here)


def _password(given: Mapping[str, Any]) -> str:
    from relay.delivery.credentials import Login, Unreadable

    if given["password_file"] is None:
        try:
            with warnings.catch_warnings(action="error", category=GetPassWarning):
                return str(click.prompt("Password", hide_input=True, err=True))
        except GetPassWarning:
            fail(["relay: there is no terminal to ask for the password at: name a file with --password-file"])
    found = Login(given["user"], "--user", given["password_file"]).read()
    if isinstance(found, Unreadable):
        fail([f"relay: {found.reason}"])
    return found.password or ""
