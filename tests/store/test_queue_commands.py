"""`relay queue` as a person types it, while the service has the queue and when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import relay
from relay.mail.message import MessageId, NewMessage
from relay.mail.outcome import State
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.queue import visitor
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore
from relay.queue.store import QueueEntry

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
FIRST = str(MessageId(1))

MakeMessage = Callable[..., NewMessage]
MakeSettlement = Callable[..., Settlement]


ROUTE = '[[route]]\nname = "backup"\nrecipient_domains = ["routed.example"]\nhosts = ["mx.backup.example"]\n'


def command(folder: Path, *arguments: str) -> Result:
    settings = folder.parent / "relay.toml"
    settings.write_text(f'hostname = "relay.test"\n[queue]\npath = "{folder}"\n{ROUTE}')
    return CliRunner().invoke(relay, ["queue", arguments[0], "--config", str(settings), *arguments[1:]])


def entries(folder: Path) -> list[QueueEntry]:
    with closing(visitor.open_reader(folder)) as reader:
        return list(reader.select(QueueFilter(states=tuple(State))))


@pytest.fixture
def seldom(message: MakeMessage) -> tuple[NewMessage, ...]:
    """Three messages, for four recipients."""
    return (
        message(1, "a@example.org", "b@example.net"),
        message(2, "c@example.org", sender=None),
        replace(message(3, "d@example.com", sender="jo@other.example"), login="jo"),
    )


@pytest.mark.asyncio
async def test_the_list_shows_what_waits(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1, "a@example.org", "b@example.net"),))
    assert command(folder, "list").output.splitlines()[0].split() == (
        ["ID", "AGE", "SENDER", "->", "RECIPIENT", "STATE", "TRIES", "NEXT", "ATTEMPT", "CAUSE"]
    )
    claims = await store.claim(9, timedelta(minutes=30), NOW, {}, 100)
    (mine,) = [claim for claim in claims if claim.destination == "example.org"]
    await store.settle(mine, settlement(mine, State.DELIVERED), (), NOW, record=AttemptRecord(), began=NOW)
    shown = command(folder, "list").output
    assert "b@example.net" in shown and "under way" in shown and "a@example.org" not in shown
    assert shown.endswith("\n\n1 recipient in 1 message\n")
    history = command(folder, "list", "--history", "--json")
    assert [one["state"] for one in json.loads(history.output)] == ["delivered", "queued"]


@pytest.mark.asyncio
async def test_an_empty_list_says_which_kind_of_empty(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    assert command(folder, "list").output == "The queue is empty.\n"
    assert command(folder, "list", "--json").output == "[]\n"
    await store.put((message(1),))
    assert command(folder, "list", "--domain", "example.net").output == "No mail fits.\n"


@pytest.mark.asyncio
async def test_a_long_list_comes_in_pieces(
    store: SqliteStore, message: MakeMessage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.queue_commands.PAGE", 2)
    await store.put([message(number, "a@example.org", "b@example.org", "c@example.org") for number in (1, 2)])
    lines = command(folder, "list").output.splitlines()
    assert [line.split()[0] for line in lines[:7]] == ["ID", *[FIRST] * 3, *[str(MessageId(2))] * 3]
    assert lines[7:] == ["", "6 recipients in 2 messages"]
    assert len(json.loads(command(folder, "list", "--json").output)) == 6
    assert len(json.loads(command(folder, "list", "--json", "--limit", "3").output)) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), "abcd"),
        ((FIRST,), "ab"),
        ((FIRST, str(MessageId(3))), "abd"),
        (("--domain", "example.org"), "ac"),
        (("--domain", "*.net"), "b"),
        (("--recipient", "A@example.org"), "a"),
        (("--sender", "<>"), "c"),
        (("--sender", "@other.example"), "d"),
        (("--login", "jo"), "d"),
        (("--state", "queued", "--state", "held"), "abcd"),
        (("--state", "held"), ""),
        (("--status", "4.7"), ""),
        (("--cause", "outage"), ""),
        (("--destination", "example.com"), "d"),
        (("--limit", "2"), "ab"),
        (("--younger-than", "1h"), "abcd"),
        (("--older-than", "3660d"), ""),
        (("--domain", "example.org", "--sender", "<>"), "c"),
    ],
)
async def test_the_options_say_which_mail_is_meant(
    store: SqliteStore, seldom: tuple[NewMessage, ...], folder: Path, options: tuple[str, ...], wanted: str
) -> None:
    await store.put(seldom)
    found = json.loads(command(folder, "list", "--json", *options).output)
    assert "".join(one["recipient"][0] for one in found) == wanted


@pytest.mark.asyncio
@pytest.mark.parametrize("service", [True, False])
async def test_a_life_under_an_operator(
    store: SqliteStore, seldom: tuple[NewMessage, ...], folder: Path, service: bool
) -> None:
    await store.put(seldom)
    if not service:
        await store.close()
    held = command(folder, "hold", "--domain", "example.org", "--reason", "under attack")
    assert (held.exit_code, held.output) == (0, "2 recipients in 2 messages are held\n")
    assert "    held: under attack\n" in command(folder, "list").output
    again = command(folder, "hold", "--domain", "example.org")
    assert (again.exit_code, again.output) == (1, "2 recipients left as before: held already\n")
    tried = command(folder, "fail", FIRST, "--dry-run")
    assert tried.output == (
        "2 recipients in 1 message would be given up\n1 notice to senders\nNothing was changed: --dry-run.\n"
    )
    assert {entry.state.value for entry in entries(folder)} == {"held", "queued"}
    failed = command(folder, "fail", FIRST, "--json", "--reason", "too late")
    assert json.loads(failed.output) == {
        "action": "fail",
        "dry_run": False,
        "recipients": 2,
        "messages": 1,
        "done": 2,
        "done_messages": 1,
        "under_way": 0,
        "unfit": 0,
        "notices": 1,
    }
    released = command(folder, "release", "--all")
    assert released.output.startswith("1 recipient in 1 message is released, and due now\n")
    assert command(folder, "retry", str(MessageId(2))).output == "1 recipient in 1 message is due now\n"
    dropped = command(folder, "drop", "--login", "jo")
    assert dropped.output == "1 recipient in 1 message is dropped\n"
    states = [entry.state.value for entry in entries(folder)]
    assert states == ["failed", "failed", "queued", "dropped", "queued"]  # the last one is the notice


@pytest.mark.asyncio
async def test_mail_goes_another_way(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    await store.put((message(1, "a@example.org", "b@routed.example"),))
    ways = [
        ("backup", ["route:backup", "route:backup"]),
        ("direct", ["example.org", "routed.example"]),
        ("default", ["example.org", "route:backup"]),
        ("192.0.2.1:2525", ["route:192.0.2.1:2525"] * 2),
    ]
    for to, wanted in ways:
        done = command(folder, "reroute", FIRST, "--to", to)
        assert done.output == "2 recipients in 1 message are rerouted\n"
        assert [entry.destination for entry in entries(folder)] == wanted
    wrong = command(folder, "reroute", FIRST, "--to", "elsewhere")
    assert (wrong.exit_code, wrong.output) == (
        *(2, "relay: --to must be one of backup, direct, default, or host:port (got 'elsewhere')\n"),
    )
    assert command(folder, "reroute", FIRST).exit_code == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("act", ["hold", "release", "retry", "fail", "drop"])
async def test_an_act_needs_to_be_told_which_mail(store: SqliteStore, folder: Path, act: str) -> None:
    await store.close()
    bare = command(folder, act)
    assert bare.exit_code == 2
    assert "give the ID of a message or an option that says which mail is meant, or --all" in bare.output
    assert command(folder, act, "--all", "--domain", "example.org").exit_code == 2
    none = command(folder, act, FIRST)
    assert (none.exit_code, none.output) == (1, f"relay: no mail waits under the id {FIRST}\n")
    none = command(folder, act, "--domain", "example.org")
    assert (none.exit_code, none.output) == (1, "relay: no mail fits\n")
    everything = command(folder, act, "--all")
    assert (everything.exit_code, everything.output.split()[:2]) == (0, ["0", "recipients"])


@pytest.mark.asyncio
@pytest.mark.parametrize("act", ["hold", "release", "retry", "fail", "drop"])
@pytest.mark.parametrize("option", ["--domain", "--sender", "--older-than", "--limit", "--state", "--cause"])
async def test_an_option_without_a_value_is_a_mistake_and_not_everything(
    store: SqliteStore, message: MakeMessage, folder: Path, act: str, option: str
) -> None:
    await store.put((message(1),))  # a script with `--domain "$DOMAIN"`, and no DOMAIN
    for more in ([], [FIRST], ["--sender", "from@sender.example"][: 0 if option == "--sender" else 2]):
        found = command(folder, act, option, "", *more)
        assert found.exit_code == 2
        assert found.output.startswith(f"relay: {option} ")
    assert command(folder, act, option, "", "--all").exit_code == 2
    assert [entry.state for entry in entries(folder)] == [State.QUEUED]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("list", "x"), "relay: 'x' is not a queue id; `relay queue list` shows them\n"),
        (("hold", "--status", "9"), "relay: --status must be a status such as 4.7.5, or its beginning (got '9')\n"),
        (
            ("drop", "--older-than", "5"),
            "relay: --older-than must be a number and a unit (s, m, h, d, w), such as 15m or 5d (got '5')\n",
        ),
        (("list",), "relay: there is no queue in {folder}\n"),
        (("drop", "--all"), "relay: there is no queue in {folder}\n"),
    ],
)
def test_mistakes_are_told_in_one_line(folder: Path, arguments: tuple[str, ...], wanted: str) -> None:
    found = command(folder, *arguments)
    if isinstance(found.exception, Exception) and not isinstance(found.exception, SystemExit):
        assert f"relay: {found.exception}\n" == wanted.format(folder=folder)  # what `main` prints
        return
    assert (found.exit_code, found.output) == (2, wanted)


@pytest.mark.parametrize(
    "arguments", [("list",), ("stats",), ("show", FIRST), ("drop", "--all"), ("hold-rule", "list")]
)
def test_who_names_no_settings_file_is_told_of_it(folder: Path, arguments: tuple[str, ...]) -> None:
    found = CliRunner().invoke(relay, ["queue", *arguments], env={"RELAY_STATE": str(folder), "RELAY_CONFIG": None})
    assert (found.exit_code, found.output) == (
        2,
        f"relay: there is no queue in {folder}; the settings file says where it is: --config FILE or RELAY_CONFIG\n",
    )


@pytest.mark.asyncio
async def test_a_message_is_explained(store: SqliteStore, seldom: tuple[NewMessage, ...], folder: Path) -> None:
    await store.put(seldom)
    command(folder, "hold", FIRST, "--reason", "under attack")
    shown = command(folder, "show", FIRST)
    assert shown.exit_code == 0
    assert shown.output.startswith(f"{FIRST}  from@sender.example -> 2 recipients\n")
    assert shown.output.count("  waits because: it is held: under attack\n") == 2
    assert "  operator:      held by " in shown.output
    both = json.loads(command(folder, "show", "--domain", "example.org", "--json").output)
    assert [one["id"] for one in both] == [FIRST, str(MessageId(2))]
    assert both[0]["recipients"][1]["hold"] == "under attack"
    assert both[0]["acts"][0]["detail"] == "under attack"
    command(folder, "drop", FIRST)
    assert "  state:         dropped" in command(folder, "show", FIRST).output
    nothing = command(folder, "show", str(MessageId(9)))
    assert (nothing.exit_code, nothing.output) == (1, f"relay: no mail is kept under the id {MessageId(9)}\n")
    assert command(folder, "show").exit_code == 2
    await store.close()
    command(folder, "retry", str(MessageId(2)))
    assert "no service runs: nothing is tried before" in command(folder, "show", str(MessageId(2))).output


@pytest.mark.asyncio
async def test_a_message_is_printed_as_it_was_taken(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    octets = b"Subject: \xff\r\n\r\nx\r\n"
    writer = store.new_body(MessageId(2))
    await writer.write(octets * 20_000)
    await store.put((message(1, body=octets), replace(message(2), body=await writer.finish())))
    assert command(folder, "cat", FIRST).stdout_bytes == octets
    assert command(folder, "cat", str(MessageId(2))).stdout_bytes == octets * 20_000
    command(folder, "drop", FIRST)
    for gone in (FIRST, str(MessageId(9))):
        found = command(folder, "cat", gone)
        assert (found.exit_code, found.output) == (1, f"relay: no mail waits under the id {gone}\n")
    assert command(folder, "cat", "x").output == "relay: 'x' is not a queue id; `relay queue list` shows them\n"


@pytest.mark.asyncio
async def test_the_list_says_when_no_service_runs(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    await store.put((message(1),))
    assert "No service runs" not in command(folder, "list").output
    await store.close()
    assert command(folder, "list").output.endswith("\nNo service runs: nothing is tried before it is started.\n")


@pytest.mark.asyncio
async def test_the_queue_in_figures(store: SqliteStore, seldom: tuple[NewMessage, ...], folder: Path) -> None:
    await store.put(seldom)
    shown = command(folder, "stats")
    assert shown.output.startswith("4 recipients in 3 messages wait, the oldest for ")
    found = json.loads(command(folder, "stats", "--json", "--limit", "1").output)
    assert [one["name"] for one in found["destinations"]] == ["example.org"]
    assert found["states"] == {"queued": 4}
    assert json.loads(command(folder, "stats", "--json", "--login", "jo").output)["recipients"] == 1


@pytest.mark.asyncio
async def test_hold_rules_from_the_command_line(store: SqliteStore, folder: Path) -> None:
    def rule(*arguments: str) -> Result:
        settings = str(folder.parent / "relay.toml")
        return CliRunner().invoke(relay, ["queue", "hold-rule", *arguments, "--config", settings])

    command(folder, "list")  # which writes the settings
    assert rule("list").output == "There are no hold rules.\n"
    added = rule("add", "--domain", "*.example.org", "--login", "jo", "--reason", "odd")
    assert added.output == "hold rule 1 is in force\n"
    shown = rule("list").output
    assert shown.startswith("1  domain *.example.org, login jo: odd (since ")
    (found,) = json.loads(rule("list", "--json").output)
    assert (found["domain"], found["login"], found["sender"]) == ("*.example.org", "jo", None)
    assert rule("add", "--reason", "x").exit_code == 2
    assert rule("add", "--login", "jo", "--reason", " ").exit_code == 2
    assert rule("add", "--sender", "x", "--reason", "x").output.startswith("relay: --sender must be an address")
    assert rule("remove", "1").output == "hold rule 1 is removed\n"
    gone = rule("remove", "1")
    assert (gone.exit_code, gone.output) == (1, "relay: there is no hold rule 1\n")
