"""[[source]] and delivery.source_*: what is taken, what it becomes, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import ConfigError, load
from relay.policy.source import Source
from relay.settings import Settings


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


def test_what_they_become(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(
        """
        [delivery]
        source_ipv4 = "192.0.2.1"
        source_ipv6 = "2001:DB8:0::1"
        [[source]]
        sender_domains = ["Bücher.example", ".b.example"]
        ipv4 = "192.0.2.2"
        hostname = "B.example"
        [[source]]
        sender_domains = ["c.example"]
        ipv6 = "[2001:db8::3]"
        [[source]]
        sender_domains = ["d.example"]
        ipv4 = ""
        """
    )
    sources = load(file, {}).sources("relay.test")
    assert sources.choose(None) == Source("192.0.2.1", "2001:db8::1", "relay.test")
    given = ("xn--bcher-kva.example", ".b.example")
    assert sources.choose("xn--bcher-kva.example") == Source("192.0.2.2", "", "b.example", given)
    assert sources.choose("x.b.example") == Source("192.0.2.2", "", "b.example", given)
    assert sources.choose("c.example") == Source("", "2001:db8::3", "relay.test", ("c.example",))
    assert sources.choose("d.example") == Source("", "", "relay.test", ("d.example",))


def test_by_default_the_system_chooses() -> None:
    assert Settings().sources("relay.test").choose("a.example") == Source(hostname="relay.test")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('source_ipv4 = "2001:db8::1"', "must be an IPv4 address such as 192.0.2.10"),
        ('source_ipv4 = "192.0.2.0/24"', "must be an IPv4 address such as 192.0.2.10"),
        ('source_ipv4 = "mail.example.org"', "must be an IPv4 address such as 192.0.2.10"),
        ("source_ipv4 = 5", "must be text in quotes"),
        ('source_ipv4 = "0.0.0.0"', "nothing can be sent from 0.0.0.0"),
        ('source_ipv4 = "224.0.0.1"', "nothing can be sent from 224.0.0.1"),
        ('source_ipv6 = "192.0.2.1"', "must be an IPv6 address such as 2001:db8::10"),
        ('source_ipv6 = "::"', "nothing can be sent from ::"),
        ('source_ipv6 = "::ffff:192.0.2.1"', "nothing can be sent from ::ffff:"),
        ('source_ipv6 = "fe80::1%eth0"', "nothing can be sent from fe80::1%eth0"),
    ],
)
def test_mistakes_in_delivery(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[delivery]\n{text}\n")
    assert found.startswith(f"delivery.{text.split(maxsplit=1)[0]}: {problem}")


def test_addresses_that_others_see() -> None:
    given = Settings.model_validate({"delivery": {"public_addresses": ["192.0.2.1", "2001:DB8:0::1", "[2001:db8::2]"]}})
    assert given.delivery.public_addresses == ("192.0.2.1", "2001:db8::1", "2001:db8::2")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "must be an address such as 192.0.2.10"),
        ("192.0.2.0/24", "must be an address such as 192.0.2.10"),
        ("mail.example.org", "must be an address such as 192.0.2.10"),
        ("2001:db8::/32", "must be an IPv6 address such as 2001:db8::10"),
        ("::", "nothing can be sent from ::"),
    ],
)
def test_mistakes_in_addresses_that_others_see(tmp_path: Path, address: str, problem: str) -> None:
    (found,) = problems(tmp_path, f'[delivery]\npublic_addresses = ["{address}"]\n')
    assert found.startswith(f"delivery.public_addresses[0]: {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('ipv4 = "192.0.2.1"', "source[0].sender_domains: is missing"),
        ('sender_domains = []\nipv4 = "192.0.2.1"', "source[0].sender_domains: must not be empty (got [])"),
        ('sender_domains = ["192.0.2.1"]\nipv4 = ""', "source[0].sender_domains[0]: must be a host name"),
        ('sender_domains = ["a.example"]', "source[0]: needs ipv4, ipv6 or hostname"),
        ('sender_domains = ["a.example"]\nipv4 = "::1"', "source[0].ipv4: must be an IPv4 address"),
        ('sender_domains = ["a.example"]\nipv6 = "192.0.2.1"', "source[0].ipv6: must be an IPv6 address"),
        ('sender_domains = ["a.example"]\nhostname = "a_b"', "source[0].hostname: must not have an underscore"),
        ('sender_domains = ["a.example"]\nip = "192.0.2.1"', "source[0].ip: unknown setting"),
    ],
)
def test_mistakes_in_a_table(tmp_path: Path, text: str, problem: str) -> None:
    found = problems(tmp_path, f"[[source]]\n{text}\n")
    assert found[0].startswith(problem)


def test_one_domain_in_two_tables(tmp_path: Path) -> None:
    table = '[[source]]\nsender_domains = ["{}"]\nipv4 = "192.0.2.1"\n'
    found = problems(tmp_path, table.format("a.example") + table.format("A.example"))
    assert found == ["source: the sender domain a.example is there twice: only one could hold"]
