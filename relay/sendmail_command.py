"""`relay sendmail`, and `sendmail` where a link of that name leads here: what cron, PHP and mutt write becomes mail.

It keeps no queue of its own: the message is with the server when this ends with 0, and else the exit code says why not.
The settings file is never taken from the command line: web applications let strangers write on that (docs/sendmail.md).
"""

from __future__ import annotations

import os
import pwd
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from relay.config import ConfigError, hostname, load_without_files
from relay.delivery.credentials import Login, Unreadable
from relay.mail.message import MessageDsn
from relay.posting.arguments import BadUsage, parse
from relay.posting.compose import Author, DataError, Wish, compose
from relay.posting.deliver import Asked, deliver
from relay.posting.place import Server, is_loopback, own_listener
from relay.posting.result import Exit
from relay.settings import Settings

DEFAULT_FILE = Path("/etc/relay/relay.toml")


def main(arguments: Sequence[str], now: datetime) -> Exit:
    """Send what comes on standard input. Returns the exit code; what is wrong goes to standard error, in lines."""
    order = parse(arguments)
    if isinstance(order, BadUsage):
        return _end(Exit.USAGE, (order.problem,))
    try:
        settings = load_without_files(settings_file(os.environ), os.environ)
        helo = hostname(settings)
        server = server_of(settings, helo)
    except ConfigError as error:
        return _end(Exit.CONFIG, error.problems)
    wish = Wish(order.sender, order.recipients, order.extract, order.dot_ends)
    try:
        draft = compose(sys.stdin.buffer.read(), wish, author_of(order.full_name, helo), now, secrets.token_hex(12))
    except DataError as error:
        return _end(Exit.DATA, (str(error),))
    asked = Asked(MessageDsn(order.ret, order.envid), order.notify)
    result = deliver(draft, server, asked, _say if order.verbose else None)
    return _end(result.exit, result.lines)


def settings_file(environ: Mapping[str, str]) -> Path | None:
    """The settings file for programs that are called without one; None: the defaults hold."""
    if environ.get("RELAY_CONFIG"):
        return Path(environ["RELAY_CONFIG"])
    try:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    except OSError:  # a folder that the caller may not look into: whoever reads the file says so
        return DEFAULT_FILE


def server_of(settings: Settings, helo: str) -> Server:
    """The server of [sendmail], or this relay's first listener. Raises ConfigError."""
    given = settings.sendmail
    password = ""
    if given.user:
        found = Login(given.user, "[sendmail]", given.password_file).read()
        if isinstance(found, Unreadable):
            raise ConfigError((found.reason,))
        password = found.password or ""
    if given.server is not None:
        here = is_loopback(given.server.host)
        return Server(given.server, given.tls, helo, given.user, password, given.ca_file, here)
    own = own_listener(settings)
    if own is None:
        raise ConfigError(("sendmail.server: must be set: no listener of this relay can be reached from here",))
    return Server(*own, helo, given.user, password, given.ca_file, here=True)


def author_of(full_name: str | None, domain: str) -> Author:
    """Who calls us, by the system's list of users; without a `full_name` that of the list."""
    try:
        entry = pwd.getpwuid(os.getuid())
        user, gecos = entry.pw_name, entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())
    except KeyError:  # a container may run under a number alone
        user, gecos = f"user{os.getuid()}", ""
    return Author(user, domain, gecos if full_name is None else full_name)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _end(exit: Exit, lines: Iterable[str]) -> Exit:
    for line in lines:
        # Octets of the command line that are no text, and what would make two lines of one, are not written.
        shown = "".join(letter if letter.isprintable() else "?" for letter in line)
        _say(f"sendmail: {shown}")
    return exit
