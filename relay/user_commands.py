"""`relay user`: who may log in with a password, in the users file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from relay.command import config_option, fail, load_without_files

users_option = click.option(
    "--file",
    "users",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="the users file; else that of the settings, submission.users_file",
)


@click.group()
def user() -> None:
    """Who may log in to send mail."""


@user.command("add")
@click.argument("name")
@users_option
@config_option
def user_add(name: str, users: Path | None, file: Path | None) -> None:
    """Add NAME to the users file. The password is asked for, or is the first line of standard input."""
    from relay.submission.users_file import add_user

    path = _users_file(users, file)
    password = _password()
    _change(path, lambda: add_user(path, name, password))
    click.echo(f"{name} is in {path}")


@user.command("passwd")
@click.argument("name")
@users_option
@config_option
def user_passwd(name: str, users: Path | None, file: Path | None) -> None:
    """Give NAME a new password, which is asked for, or is the first line of standard input."""
    from relay.submission.users_file import change_password

    path = _users_file(users, file)
    password = _password()
    _change(path, lambda: change_password(path, name, password))
    click.echo(f"{name} has a new password in {path}")


@user.command("remove")
@click.argument("name")
@users_option
@config_option
def user_remove(name: str, users: Path | None, file: Path | None) -> None:
    """Take NAME out of the users file. Sessions that are logged in go on."""
    from relay.submission.users_file import remove_user

    path = _users_file(users, file)
    _change(path, lambda: remove_user(path, name))
    click.echo(f"{name} is no longer in {path}")


@user.command("list")
@users_option
@config_option
def user_list(users: Path | None, file: Path | None) -> None:
    """Show the users, and the mechanisms that each can log in with."""
    from relay.submission.users_file import read_users

    path = _users_file(users, file)
    try:
        found = [(one.name, one.has_scram) for one in read_users(path)[1].values()]
    except OSError as error:
        fail([f"{path}: cannot be read: {error.strerror}"])
    except ValueError as error:
        fail([f"relay: {error}"])
    for name, has_scram in found:
        click.echo(f"{name}: {'SCRAM-SHA-256 ' if has_scram else ''}PLAIN LOGIN")
    if len({has_scram for _, has_scram in found}) == 2:
        click.echo("SCRAM-SHA-256 is on offer once all have it: `relay user passwd NAME`", err=True)


def _users_file(users: Path | None, file: Path | None) -> Path:
    path = users if users is not None else load_without_files(file).submission.users_file
    if path is None:
        fail(["relay: submission.users_file is not set; name the file with --file"])
    return path


def _password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if any("\udc80" <= character <= "\udcff" for character in password):  # how Python shows octets that are no text
        fail(["relay: the password is not UTF-8"])
    return password


def _change(path: Path, change: Callable[[], None]) -> None:
    try:
        change()
    except OSError as error:
        fail([f"{path}: cannot be written: {error.strerror}"])
    except ValueError as error:
        fail([f"relay: {error}"])
