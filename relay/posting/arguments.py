"""The command line of `sendmail`, as cron, PHP, mutt and git write it, into what is asked for. Pure.

What Sendmail and Postfix know and what changes nothing here is taken and passed over; what would be another program is
refused with a word on where to find it. The options are those of sendmail(8) and of Postfix's sendmail(1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from relay.mail.message import Notify, Ret
from relay.mail.xtext import encode_xtext

_MAX_ENVID = 100  # characters; RFC 3461 §4.4

_NO_ARGUMENT = frozenset("EGUcimntvx")
_WITH_ARGUMENT = frozenset("ABCFILNORVXbdefhopqr")
_PASSED_OVER = frozenset("ALOXehp")
# What is another program's work, and where it is.
_OTHER_MODES = {
    "bp": "to list the queue: relay queue list",
    "bs": "to speak SMTP: connect to a listener of Relay",
    "bd": "to run the service: relay run",
    "bD": "to run the service: relay run",
    "bi": "there are no aliases here",
    "bI": "there are no aliases here",
    "bv": "to see the way to an address: relay explain ADDRESS",
    "bt": "to see the way to an address: relay explain ADDRESS",
    "bh": "to see the state of destinations: relay queue stats",
    "bH": "to see the state of destinations: relay queue stats",
    "q": "to try waiting mail now: relay queue retry --all",
    "I": "there are no aliases here",
    "C": "the settings file is that of RELAY_CONFIG, or /etc/relay/relay.toml",
    "d": "relay sendmail -v shows the dialogue",
}


@dataclass(frozen=True, slots=True)
class BadUsage:
    """The command line cannot be followed; one line that says why."""

    problem: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a command line asks for. `sender` None: not said; empty: the null sender.

    `dot_ends`: a line with nothing but a dot ends the message. `extract`: recipients are in the header too.
    """

    sender: str | None = None
    full_name: str | None = None
    recipients: tuple[str, ...] = ()
    extract: bool = False
    dot_ends: bool = True
    notify: Notify | None = None
    ret: Ret | None = None
    envid: str | None = None  # in xtext
    verbose: bool = False


_HELP = "options as every sendmail has them, such as -t -i -f ADDRESS -F NAME -v, then recipients: docs/sendmail.md"


def parse(arguments: Sequence[str]) -> Order | BadUsage:
    """Read the words that follow the name of the program. Options may come after recipients, up to `--`."""
    order, recipients, words = Order(), list[str](), list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            recipients += words
            break
        if word == "-" or not word.startswith("-"):
            recipients.append(word)
            continue
        if word.startswith("--"):
            return BadUsage(f"{word}: {_HELP if word == '--help' else 'there are no long options'}")
        found = _cluster(order, word[1:], words)
        if isinstance(found, BadUsage):
            return found
        order = found
    if "" in recipients:
        return BadUsage("a recipient is empty")
    return replace(order, recipients=tuple(recipients))


def _cluster(order: Order, letters: str, words: list[str]) -> Order | BadUsage:
    """One word of options: letters without an argument, and perhaps one with, whose argument may be the next word."""
    for place, letter in enumerate(letters):
        if letter in _NO_ARGUMENT:
            order = _switch(order, letter)
            continue
        if letter not in _WITH_ARGUMENT:
            return BadUsage(f"-{letter}: there is no such option")
        value = letters[place + 1 :]
        if letter in "qId" and letter in _OTHER_MODES:  # their argument is attached, or there is none
            return BadUsage(f"-{letter}: {_OTHER_MODES[letter]}")
        if not value:
            if not words:
                return BadUsage(f"-{letter}: needs an argument")
            value = words.pop(0)
        return _valued(order, letter, value)
    return order


def _switch(order: Order, letter: str) -> Order:
    if letter == "t":
        return replace(order, extract=True)
    if letter == "i":
        return replace(order, dot_ends=False)
    return replace(order, verbose=True) if letter == "v" else order


def _valued(order: Order, letter: str, value: str) -> Order | BadUsage:
    if letter in _PASSED_OVER:
        return order
    if letter in _OTHER_MODES:
        return BadUsage(f"-{letter}: {_OTHER_MODES[letter]}")
    return _READERS[letter](order, value)


def _sender(order: Order, value: str) -> Order:
    bare = value.strip()
    return replace(order, sender=bare[1:-1] if bare.startswith("<") and bare.endswith(">") else bare)


def _mode(order: Order, value: str) -> Order | BadUsage:
    if value in ("m", "a"):
        return order
    return BadUsage(f"-b{value}: {_OTHER_MODES.get(f'b{value}', 'there is no such mode')}")


def _o_option(order: Order, value: str) -> Order:
    """The short options of old: -oi counts; how errors are told and when mail goes (-oem, -odb) is as it is."""
    return replace(order, dot_ends=False) if value in ("i", "itrue", "i=true") else order


def read_notify(value: str) -> Notify | BadUsage:
    """Of what the sender wants to hear, in words with commas between. RFC 3461 section 4.1."""
    words = [word.strip().upper() for word in value.split(",")]
    if words == ["NEVER"]:
        return Notify.NEVER
    wanted = Notify.NEVER
    for word in words:
        if word not in ("SUCCESS", "FAILURE", "DELAY"):
            return BadUsage(f"{value}: must be never, or some of success, failure and delay with commas between")
        wanted |= Notify[word]
    return wanted


def _notify(order: Order, value: str) -> Order | BadUsage:
    found = read_notify(value)
    return BadUsage(f"-N {found.problem}") if isinstance(found, BadUsage) else replace(order, notify=found)


def _ret(order: Order, value: str) -> Order | BadUsage:
    try:
        return replace(order, ret=Ret(value.upper()))
    except ValueError:
        return BadUsage(f"-R {value}: must be full or hdrs")


def _envid(order: Order, value: str) -> Order | BadUsage:
    if not value or not value.isascii() or not value.isprintable():
        return BadUsage("-V: an envelope id has printable ASCII characters")
    encoded = encode_xtext(value)
    if len(encoded) > _MAX_ENVID:
        return BadUsage("-V: the envelope id is too long")
    return replace(order, envid=encoded)


def _body(order: Order, value: str) -> Order | BadUsage:
    """Taken, and the message itself is looked at."""
    if value.upper() in ("7BIT", "8BITMIME"):
        return order
    return BadUsage(f"-B {value}: must be 7bit or 8bitmime")


_READERS: Mapping[str, Callable[[Order, str], Order | BadUsage]] = {
    "f": _sender,
    "r": _sender,
    "F": lambda order, value: replace(order, full_name=value),
    "b": _mode,
    "o": _o_option,
    "N": _notify,
    "R": _ret,
    "V": _envid,
    "B": _body,
}
