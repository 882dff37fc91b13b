"""`relay client`: the table as a person sees it, and which row holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli import relay
from relay.config import ConfigError, load

AUTHORITY = """
[submission]
tls_certificate = "/etc/relay/certificate.pem"
tls_key = "/etc/relay/key.pem"
client_ca_file = "/etc/relay/client-ca.pem"
"""
SETTINGS = f"""{AUTHORITY}
[[route]]
name = "shut"
action = "reject"
message = "not to there"
recipient_domains = ["shut.test"]

[[listener]]
name = "inside"
listen = ["127.0.0.1:2626"]

[[client]]
name = "printers"
networks = ["192.0.2.64/26", "2001:db8::/32"]
listeners = ["inside"]
senders = ["printers.example.org"]
recipients = ["example.org", "shut.test"]
messages_per_minute = 10
headers = "leave"

[[client]]
name = "staff"
users = ["*"]
senders = ["{{user}}@example.org", "<>"]
header_from = ["example.org"]
max_message_size = "10M"
recipients_per_day = 500
new_recipients_per_day = 50
line_ends = "normalise"

[[client]]
name = "gateway"
certificates = ["mx.a.test"]
"""
TABLE = """\
1. printers
    for clients in 192.0.2.64/26, 2001:db8::/32, at the listener inside
    from printers.example.org
    to example.org, shut.test
    at most 10 messages in a minute
    headers: leave
2. staff
    for clients logged in
    from {user}@example.org, <>
    with From example.org
    messages of at most 10M
    at most 500 recipients in 24 hours
    at most 50 new recipients in 24 hours
    line ends: normalise
3. gateway
    for clients with a certificate for mx.a.test
    from anyone to anyone
4. trusted-networks  (made of [submission])
    for clients in 127.0.0.0/8, ::1/128
    from anyone to anyone
all others
    may send nothing
"""


def run(folder: Path, *words: str, settings: str = SETTINGS) -> Result:
    path = folder / "relay.toml"
    path.write_text(settings)
    return CliRunner().invoke(relay, ["client", *words, "--config", str(path)])


def show(folder: Path, *words: str) -> Result:
    return run(folder, "show", *words)


def test_the_table(tmp_path: Path) -> None:
    assert run(tmp_path, "list").output == TABLE


def test_without_tables_every_user_is_in_it(tmp_path: Path) -> None:
    lines = run(tmp_path, "list", settings="").output.splitlines()
    assert lines[0].startswith("1. trusted-networks") and "2. users  (made of [submission])" in lines
    assert "    for clients logged in" in lines


def test_a_row_for_nobody_lets_nobody_send(tmp_path: Path) -> None:
    lines = run(tmp_path, "list", settings="[submission]\ntrusted_networks = []\n").output.splitlines()
    assert lines[:3] == [
        "1. trusted-networks  (made of [submission])",
        "    for nobody",
        "2. users  (made of [submission])",
    ]


def test_the_table_as_json(tmp_path: Path) -> None:
    table = json.loads(run(tmp_path, "list", "--json").output)
    assert [(row["row"], row["name"], row["implied"]) for row in table] == [
        (1, "printers", False),
        (2, "staff", False),
        (3, "gateway", False),
        (4, "trusted-networks", True),
    ]
    assert table[0]["networks"] == ["192.0.2.64/26", "2001:db8::/32"]
    assert (table[0]["headers"], table[0]["line_ends"]) == ("leave", None)
    assert (table[1]["max_message_size"], table[1]["recipients_per_day"]) == (10 << 20, 500)


# options -> the row that holds, the exit code, what the page ends with
SHOWN: list[tuple[list[str], str | None, int, str]] = [
    (["--address", "192.0.2.70"], None, 1, "no row holds: such a client may send nothing"),
    (["--address", "192.0.2.70", "--listener", "inside"], "printers", 0, "headers: leave"),
    (["--address", "2001:db8::1", "--listener", "inside"], "printers", 0, "headers: leave"),
    (["--address", "::ffff:127.0.0.9"], "trusted-networks", 0, "from anyone to anyone"),
    (["--address", "198.51.100.1", "--certificate", "MX.a.test"], "gateway", 0, "from anyone to anyone"),
    (["--address", "198.51.100.1", "--certificate", "other.test"], None, 1, "may send nothing"),
    (["--address", "198.51.100.1", "--login", "bob", "--sender", "bob@example.org"], "staff", 0, "org: allowed"),
    (
        ["--address", "198.51.100.1", "--listener", "api", "--login", "token:bob", "--sender", "bob@example.org"],
        "staff",
        1,
        "You may not send from this address",
    ),
    (["--address", "198.51.100.1", "--login", "bob", "--sender", "<>"], "staff", 0, "sender <>: allowed"),
    (["--address", "198.51.100.1", "--login", "bob", "--sender", "x@example.org"], "staff", 1, "from this address"),
    (["--address", "127.0.0.1", "--recipient", "x@shut.test"], "trusted-networks", 1, "550 5.7.1 not to there"),
    (["--address", "127.0.0.1", "--recipient", "x@open.test"], "trusted-networks", 0, "recipient x@open.test: allowed"),
]


@pytest.mark.parametrize(("options", "row", "code", "end"), SHOWN)
def test_which_row_holds(options: list[str], row: str | None, code: int, end: str, tmp_path: Path) -> None:
    found = show(tmp_path, *options)
    assert (found.exit_code, found.output.rstrip().endswith(end)) == (code, True), found.output
    answer = json.loads(show(tmp_path, *options, "--json").output)
    assert (answer["row"] and answer["row"]["name"]) == row
    assert answer["may_send"] is (code == 0)


def test_a_whole_page(tmp_path: Path) -> None:
    options = ["--address", "192.0.2.70", "--listener", "inside", "--sender", "a@printers.example.org"]
    found = show(tmp_path, *options, "--recipient", "b@shut.test")
    assert found.exit_code == 1
    assert found.output.splitlines() == [
        "a client at 192.0.2.70, at the listener inside, not logged in",
        "",
        *TABLE.splitlines()[:6],
        "",
        "sender a@printers.example.org: allowed",
        "recipient b@shut.test: 550 5.7.1 not to there",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--address", "192.0.2"], "does not appear to be an IPv4 or IPv6 address"),
        (["--address", "192.0.2.1", "--listener", "outside"], "no listener outside; there are submission, inside, api"),
        (["--address", "192.0.2.1", "--sender", "bob"], "has no @"),
        (["--address", "192.0.2.1", "--recipient", "postmaster"], "has no @"),
    ],
)
def test_what_cannot_be_asked(options: list[str], words: str, tmp_path: Path) -> None:
    found = show(tmp_path, *options)
    assert (found.exit_code, words in found.output) == (2, True), found.output


def clients(*tables: dict[str, Any]) -> str:
    lines = []
    for number, given in enumerate(tables):
        lines += ["[[client]]", *(f"{key} = {json.dumps(one)}" for key, one in {"name": f"c{number}", **given}.items())]
    return "\n".join(lines)


NET, USERS = {"networks": ["192.0.2.0/24"]}, {"users": ["*"]}
AMISS = [
    ([{**NET, "name": "users"}], "the name users is for what [submission] says"),
    ([{**NET, "name": "trusted-networks"}], "the name trusted-networks is for what [submission] says"),
    ([{**NET, "name": "a"}, {**USERS, "name": "a"}], "the name a is there twice"),
    ([NET, {"networks": ["192.0.2.7/32"]}], "no client gets to c1: c0, before it, is for all of them"),
    ([USERS, {"users": ["alice"]}], "no client gets to c1"),
    ([USERS, {**USERS, **NET}], "no client gets to c1"),
    ([{**NET, "senders": ["{user}"]}], "the client c0: {user} is the name of who logged in: set users too"),
    ([{**NET, "header_from": ["{user}@b.test"]}], "set users too"),
]


@pytest.mark.parametrize(("tables", "words"), AMISS)
def test_tables_that_cannot_be_meant(tables: list[dict[str, Any]], words: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(clients(*tables))
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(path, {})


@pytest.mark.parametrize(
    "tables",
    [
        [NET, USERS],
        [{"users": ["alice"]}, USERS],
        [{**NET, **USERS}, NET],
        [{"networks": ["192.0.2.0/25"]}, NET],
        [{"networks": ["::/0"]}, {"networks": ["0.0.0.0/0"]}],
        [{**USERS, "listeners": ["submission"]}, USERS],
        [{"certificates": ["*"]}, USERS],
    ],
)
def test_tables_in_a_sensible_order(tables: list[dict[str, Any]], tmp_path: Path) -> None:
    assert run(tmp_path, "list", settings=AUTHORITY + clients(*tables)).exit_code == 0
