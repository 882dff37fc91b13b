"""The command line of sendmail: what the programs write that call it, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.message import Notify, Ret
from relay.posting.arguments import BadUsage, Order, parse

ORDERS = [
    # who calls, its words, what is asked for
    ("PHP", "-t -i", Order(extract=True, dot_ends=False)),
    ("PHP with -f", "-t -i -fwww@example.org", Order(extract=True, dot_ends=False, sender="www@example.org")),
    (
        "Debian's cron",
        "-i -FCronDaemon -B8BITMIME -oem root",
        Order(dot_ends=False, full_name="CronDaemon", recipients=("root",)),
    ),
    (
        "cronie",
        "-FCronDaemon -i -odi -oem -oi -t -f root",
        Order(full_name="CronDaemon", dot_ends=False, extract=True, sender="root"),
    ),
    (
        "mutt",
        "-oem -oi -f me@example.org -N failure -R hdrs -- a@example.org b@example.org",
        Order(
            dot_ends=False,
            sender="me@example.org",
            notify=Notify.FAILURE,
            ret=Ret.HDRS,
            recipients=("a@example.org", "b@example.org"),
        ),
    ),
    ("mailx", "-r me@example.org a@example.org", Order(sender="me@example.org", recipients=("a@example.org",))),
    ("mdadm, logwatch", "-t", Order(extract=True)),
    ("combined", "-ti", Order(extract=True, dot_ends=False)),
    ("combined with an argument", "-tif me@example.org", Order(extract=True, dot_ends=False, sender="me@example.org")),
    ("null sender", "-f <> a@example.org", Order(sender="", recipients=("a@example.org",))),
    ("in brackets", "-f <me@example.org> x", Order(sender="me@example.org", recipients=("x",))),
    ("verbose", "-v -bm x", Order(verbose=True, recipients=("x",))),
    ("DSN", "-N success,delay -V a+b x", Order(notify=Notify.SUCCESS | Notify.DELAY, envid="a+2Bb", recipients=("x",))),
    ("no notice", "-N never x", Order(notify=Notify.NEVER, recipients=("x",))),
    ("passed over", "-em -odq -o7 -O Timeout=1 -h 3 -L tag -p smtp -G -U -n -m -X /tmp/x x", Order(recipients=("x",))),
    ("after --", "-- -t", Order(recipients=("-t",))),
]


@pytest.mark.parametrize(("who", "words", "order"), ORDERS)
def test_what_programs_write(who: str, words: str, order: Order) -> None:
    assert parse(words.split()) == order


def test_options_may_come_after_recipients() -> None:
    assert parse(["a@example.org", "-f", "me@example.org"]) == Order(
        sender="me@example.org", recipients=("a@example.org",)
    )


def test_the_null_sender_as_an_empty_word() -> None:
    assert parse(["-f", "", "x"]) == Order(sender="", recipients=("x",))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("-Z", "-Z: there is no such option"),
        ("--verbose", "--verbose: there are no long options"),
        (
            "--help",
            "--help: options as every sendmail has them, such as -t -i -f ADDRESS -F NAME -v, then recipients: "
            "docs/sendmail.md",
        ),
        ("-f", "-f: needs an argument"),
        ("-bp", "-bp: to list the queue: relay queue list"),
        ("-bs", "-bs: to speak SMTP: connect to a listener of Relay"),
        ("-bd -q30m", "-bd: to run the service: relay run"),
        ("-bq", "-bq: there is no such mode"),
        ("-q", "-q: to try waiting mail now: relay queue retry --all"),
        ("-q1h", "-q: to try waiting mail now: relay queue retry --all"),
        ("-bi", "-bi: there are no aliases here"),
        ("-I", "-I: there are no aliases here"),
        ("-C/etc/passwd x", "-C: the settings file is that of RELAY_CONFIG, or /etc/relay/relay.toml"),
        ("-N sometimes x", "-N sometimes: must be never, or some of success, failure and delay with commas between"),
        ("-R all x", "-R all: must be full or hdrs"),
        ("-B binary x", "-B binary: must be 7bit or 8bitmime"),
    ],
)
def test_what_is_refused(words: str, problem: str) -> None:
    assert parse(words.split()) == BadUsage(problem)


@pytest.mark.parametrize("envid", ["", "a\nb", "ö", "x" * 101, "+" * 34])
def test_an_envelope_id_that_is_none(envid: str) -> None:
    assert isinstance(parse(["-V", envid, "x"]), BadUsage)


@given(st.lists(st.text(max_size=6), max_size=6))
def test_anything_is_an_order_or_a_line(words: list[str]) -> None:
    found = parse(words)
    assert isinstance(found, Order) or "\n" not in found.problem or any("\n" in word for word in words)
