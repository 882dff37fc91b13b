"""[[route]]: what is taken, what it becomes, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config import ConfigError, load, load_without_files
from relay.policy.override import OverrideLevel
from relay.policy.routing import Direct, Discard, Entry, Hop, Place, Reject
from relay.settings import Settings

GOOD: dict[str, Any] = {"name": "smart", "recipient_domains": ["*"], "hosts": ["smart.example.net:587"]}
LOGIN: dict[str, Any] = {"user": "us", "password_file": "/etc/relay/smart"}
FINGERPRINT = "ab" * 32


def take(**changes: object) -> Entry:
    given = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    (one,) = Settings.model_validate({"route": [given]}).route
    return one.value()


def test_a_whole_one() -> None:
    assert take(
        recipient_domains=["Bücher.Example", ".example.org"],
        sender_domains=["<>", "*", "News.example"],
        logins=["ann", "*"],
        hosts=["Smart1.example.net:587", "smart2.example.net", "[2001:DB8::5]:26", "2001:db8::6", "192.0.2.5"],
        tls="encrypt",
    ) == Entry(
        "smart",
        Hop(
            "smart",
            (
                Place("smart1.example.net", 587),
                Place("smart2.example.net", 25),
                Place("2001:db8::5", 26),
                Place("2001:db8::6", 25),
                Place("192.0.2.5", 25),
            ),
            tls=OverrideLevel.ENCRYPT,
        ),
        frozenset({"xn--bcher-kva.example", ".example.org"}),
        frozenset({"<>", "*", "news.example"}),
        frozenset({"ann", "*"}),
    )


SMART = (Place("smart.example.net", 587),)
BECOMES = [
    ({}, Hop("smart", SMART)),
    ({"tls": ""}, Hop("smart", SMART)),
    ({"tls": "none"}, Hop("smart", SMART, tls=OverrideLevel.NONE)),
    ({"mx": True}, Hop("smart", SMART, mx=True)),
    (LOGIN, Hop("smart", SMART, tls=OverrideLevel.VERIFY, user="us")),
    ({**LOGIN, "tls": "dane-only"}, Hop("smart", SMART, tls=OverrideLevel.DANE_ONLY, user="us")),
    ({"user": "us", "token_file": "t"}, Hop("smart", SMART, tls=OverrideLevel.VERIFY, user="us")),
    (
        {**LOGIN, "hosts": ["192.0.2.1"], "tls": "fingerprint", "fingerprints": [FINGERPRINT]},
        Hop("smart", (Place("192.0.2.1", 25),), False, OverrideLevel.FINGERPRINT, (b"\xab" * 32,), "us"),
    ),
    ({"hosts": ["192.0.2.1"], "tls": "encrypt"}, Hop("smart", (Place("192.0.2.1", 25),), tls=OverrideLevel.ENCRYPT)),
    ({"action": "direct", "hosts": None}, Direct()),
    ({"action": "discard", "hosts": None}, Discard("smart")),
    ({"action": "reject", "hosts": None, "message": "not to there"}, Reject("smart", "not to there")),
    ({"recipient_domains": None}, Hop("smart", SMART)),  # by `relay queue reroute` or as the fallback only
]


@pytest.mark.parametrize(("changes", "way"), BECOMES, ids=lambda case: str(case)[:40])
def test_where_it_goes(changes: dict[str, Any], way: object) -> None:
    assert take(**changes).way == way


MISTAKES = [
    ({"name": None}, ".name: is missing"),
    ({"name": "Smart"}, ".name: must be a name of lower-case letters, digits and hyphens, such as smart-host"),
    ({"name": "a b"}, ".name: must be a name of lower-case letters"),
    ({"name": "a:1"}, ".name: must be a name of lower-case letters"),
    ({"name": "-a"}, ".name: must be a name of lower-case letters"),
    ({"name": ""}, ".name: must be a name of lower-case letters"),
    ({"name": 1}, ".name: must be a name of lower-case letters"),
    ({"name": "direct"}, '.name: is a name that Relay uses itself (got "direct")'),
    ({"name": "next-hop"}, ".name: is a name that Relay uses itself"),
    ({"name": "fallback"}, ".name: is a name that Relay uses itself"),
    ({"recipient_domains": ["a b"]}, ".recipient_domains[0]: 'a b' is not a host name such as mail.example.org"),
    ({"recipient_domains": ["<>"]}, ".recipient_domains[0]: '<>' is not a host name"),
    ({"recipient_domains": ["*.example.org"]}, ".recipient_domains[0]: '*.example.org' is not a host name"),
    ({"recipient_domains": ["192.0.2.1"]}, ".recipient_domains[0]: must be a host name such as mail.example.org, not"),
    ({"sender_domains": ["x@a.test"]}, ".sender_domains[0]: 'x@a.test' is not a host name"),
    ({"sender_domains": [1]}, ".sender_domains[0]: must be text such as example.org or .example.org (got 1)"),
    ({"logins": [" "]}, ".logins[0]: must be the name of a user, or *"),
    ({"action": "drop"}, ".action: must be 'deliver', 'direct', 'discard' or 'reject' (got \"drop\")"),
    ({"hosts": None}, ": needs hosts: where the mail goes"),
    ({"hosts": ["smart host"]}, ".hosts[0]: 'smart host' is not a host name such as mail.example.org"),
    ({"hosts": ["smart.example:0"]}, ".hosts[0]: the port must be from 1 to 65535"),
    ({"hosts": [""]}, ".hosts[0]: must be host:port"),
    ({"hosts": ["0.0.0.0"]}, ".hosts[0]: no host can be reached at 0.0.0.0"),
    ({"hosts": ["a.test", "A.test:25"]}, ": a host is there twice"),
    ({"action": "discard"}, ": hosts: only for the action deliver, not for discard"),
    ({"action": "direct", "hosts": None, "tls": "verify"}, ": tls: only for the action deliver, not for direct"),
    (
        {"action": "reject", "message": "no", **LOGIN},
        ": hosts and user and password_file: only for the action deliver, not for reject",
    ),
    ({"action": "reject", "hosts": None}, ": the action reject and the message need each other"),
    ({"message": "no"}, ": the action reject and the message need each other"),
    ({"action": "reject", "hosts": None, "message": "nö"}, ".message: must be one line of ASCII text"),
    ({"action": "reject", "hosts": None, "message": "a" * 401}, ".message: must have at most 400 characters"),
    ({"mx": True, "hosts": ["a.test", "b.test"]}, ": mx goes with one name in hosts, whose MX records are looked up"),
    ({"mx": True, "hosts": ["192.0.2.1"]}, ": mx goes with one name in hosts"),
    ({"mx": 1}, ".mx: must be true or false (got 1)"),
    ({"mx": True, **LOGIN}, ": user needs hosts that are named here, and mx lets DNS name them"),
    ({"tls": "strong"}, ".tls: must be none, opportunistic, encrypt, verify, dane, dane-only, fingerprint (got"),
    ({"tls": "fingerprint"}, ": the level fingerprint and the list fingerprints need each other"),
    ({"fingerprints": [FINGERPRINT]}, ": the level fingerprint and the list fingerprints need each other"),
    ({"tls": "verify", "hosts": ["192.0.2.1"]}, ": verify is about the name of a host, and 192.0.2.1 has none"),
    ({"tls": "dane", "hosts": ["a.test", "2001:db8::1"]}, ": dane is about the name of a host, and 2001:db8::1 has"),
    ({"tls": "dane-only", "hosts": ["192.0.2.1"]}, ": dane-only is about the name of a host, and 192.0.2.1 has none"),
    ({"hosts": ["192.0.2.1"], **LOGIN}, ": verify is about the name of a host, and 192.0.2.1 has none"),
    ({"user": "us"}, ": user needs password_file or token_file"),
    ({"password_file": "p"}, ": password_file needs user: who logs in"),
    ({"token_file": "t"}, ": token_file needs user: who logs in"),
    ({**LOGIN, "token_file": "t"}, ": needs one of password_file and token_file, not both"),
    ({**LOGIN, "tls": "encrypt"}, ": a password goes to a proven host only: tls verify, dane-only or fingerprint, not"),
    ({**LOGIN, "tls": "none"}, ": a password goes to a proven host only"),
    ({**LOGIN, "tls": "opportunistic"}, ": a password goes to a proven host only"),
    ({**LOGIN, "tls": "dane"}, ": a password goes to a proven host only"),
    ({"password": "secret", "user": "us"}, ".password: unknown setting; known here: name, recipient_domains"),
]


def in_file(*routes: dict[str, object]) -> str:
    def written(value: object) -> str:
        return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')

    return "".join(
        "[[route]]\n" + "".join(f"{key} = {written(value)}\n" for key, value in one.items() if value is not None)
        for one in routes
    )


def mistakes(text: str, tmp_path: Path) -> tuple[str, ...]:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    return tuple(problem.removeprefix(f"{file}: ") for problem in caught.value.problems)


@pytest.mark.parametrize(("changes", "told"), MISTAKES, ids=lambda case: str(case)[:50])
def test_mistakes_are_told_with_their_place(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    first = {**GOOD, "name": "first"}
    (problem,) = mistakes(in_file(first, {**GOOD, **changes}), tmp_path)
    assert problem.startswith(f"route[1]{told}")


def other(name: str, **changes: object) -> dict[str, object]:
    return {**GOOD, "name": name, **changes}


TOGETHER = [
    (in_file(other("a"), other("a")), "route: the name a is there twice"),
    (in_file(other("a"), other("b")), "route: no mail gets to the route b: a, before it, takes all"),
    (
        in_file(other("a", recipient_domains=None, sender_domains=["*"]), other("b", recipient_domains=["b.test"])),
        "route: no mail gets to the route b: a, before it, takes all",
    ),
    (
        in_file(other("a", sender_domains=["x.test", "*"])) + '[delivery]\nnext_hop = "b.test:25"\n',
        "delivery.next_hop: no mail gets to it: the route a takes all",
    ),
    (
        '[submission]\nlisten = ["0.0.0.0:25"]\n' + in_file(other("b", hosts=["a.test", "127.0.0.1"])),
        "route: the route b: 127.0.0.1:25 is this relay itself: mail would go in a circle",
    ),
    (
        'hostname = "out.example"\n' + in_file(other("a", hosts=["OUT.example:2525"])),
        "route: the route a: out.example:2525 is this relay itself: mail would go in a circle",
    ),
    (
        '[delivery]\nfallback = "b"\n' + in_file(other("a")),
        "delivery.fallback: there is no [[route]] with the name b",
    ),
    (
        '[delivery]\nfallback = "a"\n' + in_file(other("a", action="discard", hosts=None)),
        "delivery.fallback: the route a does not deliver: its action is discard",
    ),
    (
        '[delivery]\nfallback = "a"\nnext_hop = "b.test:25"\n' + in_file(other("a", logins=["x"])),
        "delivery.fallback: is for mail that goes directly, and delivery.next_hop takes all mail",
    ),
    (
        in_file(other("a", user="us", password_file="/nothing/here")),
        "route: the route a: /nothing/here cannot be read: No such file or directory",
    ),
    (
        in_file(other("a", user="us", token_file="/dev/null")),
        "route: the route a: /dev/null is not a file",
    ),
]


def test_a_secret_that_cannot_be_one(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    for octets, told in ((b"", "is empty"), (b"a\nb\n", "has more than one line"), (b"\xff", "is not UTF-8 text")):
        secret.write_bytes(octets)
        (problem,) = mistakes(in_file(other("a", user="us", password_file=str(secret))), tmp_path)
        assert problem.startswith(f"route: the route a: password_file of [[route]] a: {secret} {told}")


@pytest.mark.parametrize(("text", "told"), TOGETHER, ids=lambda case: str(case)[-60:])
def test_what_does_not_go_together(text: str, told: str, tmp_path: Path) -> None:
    assert mistakes(text, tmp_path) == (told,)


GOES_TOGETHER = [
    in_file(other("b", recipient_domains=["b.test"]), other("a"), other("c", recipient_domains=None)),
    in_file(other("a", logins=["*"]), other("b", sender_domains=["<>"]), other("c")),
    in_file(other("a", mx=True, hosts=["out.example:2525"])) + '[delivery]\nfallback = "a"\n',
    in_file(other("a", action="direct", hosts=None, recipient_domains=["a.test"]))
    + '[delivery]\nnext_hop = "a.test:25"\nfallback = "b.test:25"\nfallback_after = 1\n',
]


@pytest.mark.parametrize("text", GOES_TOGETHER)
def test_what_goes_together(text: str, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('hostname = "out.example"\n' + text)
    assert load(tmp_path / "relay.toml", {}).routes.entries


def test_all_of_them_with_the_shorthands_of_delivery(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(
        '[delivery]\nnext_hop = "next.test:26"\nfallback = "backup.test:27"\nfallback_after = 5\n'
        + in_file(other("b", recipient_domains=["b.test"]), other("a", action="direct", hosts=None, logins=["x"]))
    )
    settings = load_without_files(tmp_path / "relay.toml", {})
    routes = settings.routes
    direct = take(name="a", action="direct", hosts=None, logins=["x"])
    assert routes.entries == (take(name="b", recipient_domains=["b.test"]), direct)
    assert routes.way("route:next-hop") == Hop("next-hop", (Place("next.test", 26),))
    assert routes.way("route:fallback") == Hop("fallback", (Place("backup.test", 27),))
    assert (routes.fallback_after, Settings().routes.fallback_after) == (5, 3)
    assert Settings().routes.hops == ()
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings
