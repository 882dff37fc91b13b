"""Listeners that do not go together, in the words of `relay config check`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import relay
from relay.config import ConfigError, load_without_files

CERTIFICATE = '[submission]\ntls_certificate = "chain"\ntls_key = "key"\n'


def listener(name: str = "x", listen: str = "127.0.0.1:25", more: str = "") -> str:
    return f'[[listener]]\nname = "{name}"\nlisten = ["{listen}"]\n{more}\n'


def client(listeners: str) -> str:
    return f'[[client]]\nname = "c"\nnetworks = ["192.0.2.0/24"]\nlisteners = ["{listeners}"]\n'


NAMED = '[[client]]\nname = "n"\ncertificates = ["*"]\nlisteners = ["x"]\n'
HOP = '[delivery]\nnext_hop = "127.0.0.1:25"\n'
BAD: dict[str, tuple[str, str]] = {
    "no name twice": (listener() + listener(listen="127.0.0.1:26"), "listener: the name x is there twice"),
    "our own name": (
        listener("submission"),
        "listener: the name submission is taken, by [submission] or the API: choose another",
    ),
    "our other name": (
        listener("submission-tls"),
        "listener: the name submission-tls is taken, by [submission] or the API: choose another",
    ),
    "that of the API": (
        listener("api"),
        "listener: the name api is taken, by [submission] or the API: choose another",
    ),
    "one place twice": (listener() + listener("y"), "listener: 127.0.0.1:25 is there twice"),
    "the default too": (listener(listen="127.0.0.1:2525"), "listener: 127.0.0.1:2525 is there twice"),
    "metrics too": (listener() + '[admin]\nlisten = ["127.0.0.1:25"]', "admin.listen: 127.0.0.1:25 is there twice"),
    "one socket twice": (
        listener(listen="systemd:mail") + listener("y", "systemd:mail"),
        "listener: systemd:mail is there twice",
    ),
    "implicit TLS": (
        listener(more='tls = "implicit"'),
        "listener: the listener x: tls = implicit needs submission.tls_certificate and submission.tls_key",
    ),
    "required TLS": (
        listener(more='tls = "required"'),
        "listener: the listener x: tls = required needs submission.tls_certificate and submission.tls_key",
    ),
    "logins without TLS": (
        CERTIFICATE + listener(more='tls = "none"\nauth = true'),
        "listener: the listener x: auth = true, but with tls = none nobody can log in: that needs TLS",
    ),
    "a client of nowhere": (client("x"), "client: the client c: there is no listener x"),
    "a client of no TLS": (client("submission-tls"), "client: the client c: there is no listener submission-tls"),
    "a part of all addresses": (
        listener() + listener("y", "0.0.0.0:25"),
        "listener: 127.0.0.1:25 is a part of 0.0.0.0:25, which is there too: both cannot be had",
    ),
    "a part of all addresses, the other way": (
        listener(listen="[::]:25") + '[admin]\nlisten = ["[::1]:25"]',
        "admin.listen: [::1]:25 is a part of [::]:25, which is there too: both cannot be had",
    ),
    "certificates that nobody asks for": (
        CERTIFICATE + 'client_ca_file = "ca"\n' + listener(more="ask_certificate = false") + NAMED,
        "client: the client n: certificates, but no listener of it asks for one: see ask_certificate and tls",
    ),
    "an issuer of no tokens": (
        '[login]\nissuer = "https://id.example.org/"\n',
        "login.issuer: needs login.jwks: without it no tokens are taken",
    ),
    "one bracket": (
        '[listener]\nname = "x"\n',
        "listener: must be written [[listener]], with two brackets: there may be several",
    ),
    "a circle": (listener() + HOP, "delivery.next_hop: 127.0.0.1:25 is this relay itself: mail would go in a circle"),
    "a circle from far": (
        listener(listen="[::]:25") + HOP.replace("127.0.0.1", "[::1]"),
        "delivery.next_hop: [::1]:25 is this relay itself: mail would go in a circle",
    ),
}
GOOD = {
    "many": listener() + listener("y", "[::1]:25") + listener("z", "127.0.0.1:26", 'tls = "none"'),
    "free ports": listener(listen="127.0.0.1:0") + listener("y", "127.0.0.1:0"),
    "nothing else": "[submission]\nlisten = []\n" + listener(),
    "TLS": CERTIFICATE + listener(more='tls = "implicit"') + listener("y", "127.0.0.1:26", 'tls = "required"'),
    "no logins": listener(more='tls = "none"\nauth = false'),
    "logins of this machine": (
        "[submission]\nplaintext_login_on_loopback = true\n" + listener(more='tls = "none"\nauth = true')
    ),
    "users of this machine": '[submission]\nplaintext_login_on_loopback = true\nusers_file = "users"\n',
    "a client": client("x") + listener(),
    "a client of [submission]": client("submission"),
    "all addresses of the other kind": listener() + listener("y", "[::]:25"),
    "certificates that are asked for": CERTIFICATE + 'client_ca_file = "ca"\n' + listener() + NAMED,
    "another server": listener(listen="systemd:mail") + HOP,
}


def problems(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "relay.toml").write_text(text)
    try:
        load_without_files(folder / "relay.toml", {})
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(("text", "problem"), BAD.values(), ids=BAD)
def test_what_does_not_go_together(text: str, problem: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, text)
    assert found == f"{tmp_path}/relay.toml: {problem}"


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_does(text: str, tmp_path: Path) -> None:
    assert problems(tmp_path, text) == ()


def test_an_open_relay_is_no_mistake_and_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[submission]\ntrusted_networks = ["0.0.0.0/0"]\n')
    found = CliRunner().invoke(relay, ["config", "check", str(tmp_path / "relay.toml")])
    assert found.exit_code == 0
    assert "WARNING, an open relay: submission.trusted_networks lets 0.0.0.0/0 send to anyone" in found.output
