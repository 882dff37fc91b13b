"""`relay dkim`: keys that are made, shown and asked DNS for, and what is said of mistakes."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.rdatatype
import dns.zone
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from relay.cli import relay
from relay.signing.keygen import KeyType, new_key
from relay.signing.keys import SigningKey, load_key
from relay.signing_settings import DkimKeySettings

RSA = new_key(KeyType.RSA, 1024)  # short, since that is quick


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(relay, ["dkim", *map(str, words)])


def keygen(folder: Path, *words: str) -> Result:
    return run("keygen", "--domain", "Example.org", "--type", "ed25519", "--out", folder / "key.pem", *words)


def settings(folder: Path, *tables: dict[str, Any]) -> Path:
    lines = []
    for one in tables:
        lines += ["[[dkim_key]]", *(f"{name} = {json.dumps(value)}" for name, value in one.items())]
    path = folder / "relay.toml"
    path.write_text("\n".join(lines))
    return path


def table(path: Path, domain: str = "example.org", selector: str = "s1", **more: Any) -> dict[str, Any]:
    return {"domain": domain, "selector": selector, "key_file": str(path), **more}


def records(text: str) -> dict[str, bytes]:
    """The TXT records of a piece of a zone file, by absolute name."""
    zone = dns.zone.from_text(text, origin="example.org", relativize=False, check_origin=False)
    found = zone.iterate_rdatasets(dns.rdatatype.TXT)
    return {name.to_text(omit_final_dot=True): b"".join(texts[0].strings) for name, texts in found}


def test_what_keygen_prints_can_be_used_as_it_is(tmp_path: Path) -> None:
    done = keygen(tmp_path, "--selector", "s1")
    assert done.exit_code == 0
    path = tmp_path / "key.pem"
    assert path.stat().st_mode & 0o7777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]
    assert isinstance(load_pem_private_key(path.read_bytes(), None), Ed25519PrivateKey)
    given = tomllib.loads(done.stdout[done.stdout.index("[[dkim_key]]") :])
    assert given == {"dkim_key": [table(path)]}
    key = load_key(DkimKeySettings.model_validate(given["dkim_key"][0]))
    assert isinstance(key, SigningKey)
    (zone,) = re.findall(r"^s1\._domainkey.*$", done.stdout, re.MULTILINE)
    (value,) = re.findall(r"^Value: (.*)$", done.stdout, re.MULTILINE)
    assert records(f"{zone}\n") == {key.record_name: value.encode()}
    assert f"Name:  {key.record_name}\nType:  TXT\n" in done.stdout
    assert "can be read by" in done.stderr
    assert path.read_text().splitlines()[1] not in done.output


def test_an_rsa_key(tmp_path: Path) -> None:
    assert run("keygen", "--domain", "example.org", "--out", tmp_path / "key.pem").exit_code == 0
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == 2048
    assert b"BEGIN PRIVATE KEY" in (tmp_path / "key.pem").read_bytes()  # PKCS#8


@pytest.mark.parametrize("out", [None, "."])
def test_the_selector_is_of_the_day_and_the_file_of_both(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = datetime.now(UTC)
    folder = [] if out is None else ["--out", out]
    assert run("keygen", "--domain", "example.org", "--type", "ed25519", *folder).exit_code == 0
    days = {f"{day:%Y%m%d}" for day in (before, datetime.now(UTC))}
    assert next(tmp_path.iterdir()).name in {f"example.org.relay{day}-ed25519.pem" for day in days}


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("precious")
    done = keygen(tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"relay: {path} is there already, and a key is never written over: name another with --out\n"
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_nor_is_what_a_dangling_link_names(tmp_path: Path) -> None:
    (tmp_path / "key.pem").symlink_to(tmp_path / "elsewhere")
    assert keygen(tmp_path).exit_code == 2
    assert not (tmp_path / "elsewhere").exists()


MISTAKES = [
    (["--selector", "a b"], "relay: --selector: must be a selector such as relay1"),
    (["--domain", "192.0.2.1"], "relay: --domain: must be a host name"),
    (["--bits", "2048"], "relay: an Ed25519 key has no --bits"),
    (["--domain", ".".join(["a" * 60] * 4)], "relay: the name of the record, relay"),
    (["--out", "/nowhere/there/key.pem"], "relay: /nowhere/there is not a folder: make it first"),
    (["--out", "/proc/key.pem"], "/proc/key.pem: cannot be written: "),
    (["--out", "/tmp/a\nb"], "relay: --out: the settings cannot have such a path"),
]


@pytest.mark.parametrize(("words", "problem"), MISTAKES)
def test_mistakes(words: list[str], problem: str, tmp_path: Path) -> None:
    done = keygen(tmp_path, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(problem)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", ["1024", "8192", "many"])
def test_the_length_of_an_rsa_key_has_limits(bits: str, tmp_path: Path) -> None:
    assert run("keygen", "--domain", "example.org", "--bits", bits, "--out", tmp_path / "x").exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Settings with a key of each type."""
    (tmp_path / "rsa.pem").write_bytes(RSA)
    (tmp_path / "ed.pem").write_bytes(new_key(KeyType.ED25519, 0))
    return settings(
        tmp_path,
        table(tmp_path / "rsa.pem", selector="s1", subdomains=True),
        table(tmp_path / "ed.pem", domain="two.test", selector="s2"),
    )


def test_show_is_a_piece_of_a_zone_file(two: Path) -> None:
    shown = run("show", "--config", two)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("; RSA, 1024 bits, signs for example.org and the domains below it\n")
    assert "\n; Ed25519, signs for two.test alone\n" in shown.stdout
    found = records(run("show", "--config", two, "--domain", "Example.org").stdout)
    listed = json.loads(run("show", "--config", two, "--json").stdout)
    assert [one["name"] for one in listed] == ["s1._domainkey.example.org", "s2._domainkey.two.test"]
    assert found == {listed[0]["name"]: listed[0]["record"].encode()}
    assert listed[1]["zone"] in shown.stdout
    assert {name: listed[1][name] for name in ("domain", "selector", "type", "bits", "subdomains")} == {
        "domain": "two.test",
        "selector": "s2",
        "type": "ed25519",
        "bits": 256,
        "subdomains": False,
    }


def test_show_one_plainly(two: Path) -> None:
    shown = run("show", "--config", two, "--selector", "s2", "--form", "plain")
    assert re.fullmatch(
        r"Ed25519, signs for two\.test alone\n"
        r"Name:  s2\._domainkey\.two\.test\nType:  TXT\nValue: v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=\n",
        shown.stdout,
    )


def test_show_what_there_is_not(two: Path, tmp_path: Path) -> None:
    shown = run("show", "--config", two, "--domain", "example.org", "--selector", "s2")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr == "relay: the settings have no such [[dkim_key]]\n"
    assert run("show", "--config", two, "--domain", "none.test", "--json").stdout == "[]\n"


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_file_without_a_key_is_no_answer(command: str, tmp_path: Path) -> None:
    done = run(command, "--config", settings(tmp_path, table(tmp_path / "none.pem")))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "none.pem cannot be read: No such file or directory" in done.stderr


def test_without_keys_there_is_nothing_to_check(tmp_path: Path) -> None:
    done = run("check", "--config", settings(tmp_path))
    assert (done.exit_code, done.stdout) == (0, "ok    dkim  no key is set: mail is not signed\n")
