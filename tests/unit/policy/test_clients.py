"""Who may send to anyone: the one decision that makes an open relay or not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.policy.clients import Clients, Grant, IPNetwork, Peer
from relay.settings import Settings, SubmissionSettings


def networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def peer(address: str = "192.0.2.1", login: str | None = None, *certificates: str, listener: str = "x") -> Peer:
    return Peer(ipaddress.ip_address(address), listener, certificates, login)


# client, login, trusted networks -> may it
CASES = [
    ("127.0.0.1", None, [], False),
    ("127.0.0.1", None, ["127.0.0.0/8"], True),
    ("128.0.0.1", None, ["127.0.0.0/8"], False),
    ("192.0.2.1", None, ["192.0.2.1/32"], True),
    ("192.0.2.2", None, ["192.0.2.1/32"], False),
    ("192.0.2.2", None, ["198.51.100.0/24", "192.0.2.0/24"], True),
    ("192.0.2.1", None, ["::/0"], False),  # each family for itself
    ("2001:db8::1", None, ["0.0.0.0/0"], False),
    ("2001:db8::1", None, ["2001:db8::/32"], True),
    ("2001:db9::1", None, ["2001:db8::/32"], False),
    ("::1", None, ["127.0.0.0/8"], False),
    ("192.0.2.1", "alice", [], True),
    ("192.0.2.1", "alice", ["198.51.100.0/24"], True),
    ("192.0.2.1", "", [], True),  # a name was accepted, whatever it is: None alone says that nobody has logged in
]


@pytest.mark.parametrize(("client", "login", "trusted", "expected"), CASES)
def test_without_tables(client: str, login: str | None, trusted: list[str], expected: bool) -> None:
    settings = Settings(submission=SubmissionSettings(trusted_networks=networks(*trusted)))
    assert (settings.clients.grant(peer(client, login)) is not None) is expected


# a table, a client -> is it for it
FITS = [
    (Grant("x"), peer(), False),  # says nothing: for nobody
    (Grant("x", listeners=("x",)), peer(), False),
    (Grant("x", senders=("*",), recipients=("*",)), peer(), False),
    (Grant("x", networks=networks("192.0.2.0/24")), peer(), True),
    (Grant("x", networks=networks("192.0.2.0/24")), peer(login="alice"), True),
    (Grant("x", networks=networks("192.0.3.0/24")), peer(login="alice"), False),
    (Grant("x", networks=networks("192.0.2.0/24"), users=("*",)), peer(), False),  # all that is given
    (Grant("x", networks=networks("192.0.2.0/24"), users=("*",)), peer(login="alice"), True),
    (Grant("x", users=("alice",)), peer(login="alice"), True),
    (Grant("x", users=("alice",)), peer(login="Alice"), False),
    (Grant("x", users=("alice",)), peer(login="bob"), False),
    (Grant("x", users=("*",)), peer(), False),
    (Grant("x", users=("*",)), peer(login="*"), True),
    (Grant("x", users=("alice",)), peer(login="*"), False),
    (Grant("x", certificates=("mail.example.org",)), peer("192.0.2.1", None, "MAIL.example.org"), True),
    (Grant("x", certificates=("mail.example.org",)), peer("192.0.2.1", None, "other.example.org"), False),
    (Grant("x", certificates=("mail.example.org",)), peer("192.0.2.1", None, "*"), False),
    (Grant("x", certificates=("*",)), peer("192.0.2.1", None, "other.example.org"), True),
    (Grant("x", certificates=("*",)), peer(), False),
    (Grant("x", users=("*",), listeners=("x",)), peer(login="alice"), True),
    (Grant("x", users=("*",), listeners=("y",)), peer(login="alice"), False),
]


@pytest.mark.parametrize(("grant", "client", "expected"), FITS)
def test_whom_a_table_is_for(grant: Grant, client: Peer, expected: bool) -> None:
    assert grant.fits(client) is expected
    assert (Clients([grant]).grant(client) is grant) is expected


NAMES = ("post@host.test", "host.test")  # in the certificate, as it gives them
# tables -> the names that it may log in by
CERTIFICATE_LOGINS = [
    ([], ()),
    ([Grant("users", users=("*",))], ()),  # that an authority has signed it opens nothing
    ([Grant("near", networks=networks("0.0.0.0/0"))], ()),
    ([Grant("other", certificates=("other.test",))], ()),
    ([Grant("host", certificates=("host.test",))], ("host.test",)),
    ([Grant("any", certificates=("*",))], NAMES),
    ([Grant("host", certificates=("host.test",)), Grant("post", certificates=("post@host.test",))], NAMES),
    ([Grant("here", certificates=("host.test",), listeners=("x",))], ("host.test",)),
    ([Grant("elsewhere", certificates=("host.test",), listeners=("y",))], ()),
    ([Grant("far", certificates=("host.test",), networks=networks("198.51.100.0/24"))], ()),
    ([Grant("logged-in", certificates=("*",), users=("*",))], NAMES),
    ([Grant("one", certificates=("*",), users=("host.test",))], ("host.test",)),
    ([Grant("alice", certificates=("*",), users=("alice",))], ()),
]


@pytest.mark.parametrize(("grants", "expected"), CERTIFICATE_LOGINS)
def test_by_which_names_a_certificate_may_log_in(grants: list[Grant], expected: tuple[str, ...]) -> None:
    assert Clients(grants).certificate_logins(peer("192.0.2.1", None, *NAMES)) == expected
    assert Clients(grants).certificate_logins(peer()) == ()


def test_the_first_that_fits_holds() -> None:
    one, two = Grant("one", users=("alice",)), Grant("two", networks=networks("192.0.2.0/24"))
    assert Clients([one, two]).grant(peer(login="alice")) is one
    assert Clients([two, one]).grant(peer(login="alice")) is two
    assert Clients([one, two]).grant(peer(login="bob")) is two


def test_users_that_no_table_names_may_nothing_once_a_table_speaks_of_users() -> None:
    table = {"name": "a", "users": ["alice"]}
    clients = Settings.model_validate({"client": [table]}).clients
    assert clients.grant(peer(login="alice"))
    assert clients.grant(peer(login="bob")) is None
    assert clients.grant(peer("127.0.0.1", "bob"))  # its network may, logged in or not


# patterns, address (None: the null sender), login -> is it one of them
PATTERNS: list[tuple[tuple[str, ...], str | None, str | None, bool]] = [
    ((), "a@b.test", None, True),
    ((), None, None, True),
    (("b.test",), "a@b.test", None, True),
    (("b.test",), "a@B.TEST", None, True),
    (("b.test",), "a@x.b.test", None, False),
    (("b.test",), "a@xb.test", None, False),
    ((".b.test",), "a@x.b.test", None, True),
    ((".b.test",), "a@b.test", None, False),
    (("a@b.test",), "a@b.test", None, True),
    (("a@b.test",), "A@b.test", None, False),
    (("a@b.test",), "a@x.b.test", None, False),
    (("a@.b.test",), "a@x.b.test", None, False),
    (("*",), "a@b.test", None, True),
    (("*",), None, None, False),
    (("b.test", "<>"), None, None, True),
    (("b.test",), None, None, False),
    (("{user}",), "a@b.test", "a@b.test", True),
    (("{user}",), "a@b.test", "b@b.test", False),
    (("{user}",), "a@b.test", None, False),
    (("{user}@b.test",), "a@b.test", "a", True),
    (("{user}@b.test",), "a@b.test", "b", False),
    (("{user}",), "a@b.test", "b.test", False),  # a login that looks like a domain does not open it
    (("{user}",), "a@x.b.test", ".b.test", False),
    (("{user}",), "a@b.test", "*", False),
    (("{user}",), "a@b.test", "a@B.TEST", True),
    (("{user}",), "A@b.test", "a@b.test", False),
    (("{user}",), "a+x@b.test", "a@b.test", False),
    (("{user}",), '"a"@b.test', "a@b.test", True),
    (("{user}",), "a@b.test", '"a"@b.test', False),  # whoever made this login may not have meant a
    (("{user}",), '""@b.test', "b.test", False),
    (("{user}",), '""@b.test', "@b.test", False),
    (("{user}",), "a@b.test", "", False),
    (("{user}",), "a@b.test", "a@b.test.", False),
    (("{user}",), "a@b.test", "{user}", False),
    (("{user}",), "postmaster", "postmaster", False),
    (("{user}",), '"a@c.test"@b.test', "a@c.test", False),
    (("{user}",), '"a@c.test"@b.test', "a@c.test@b.test", True),  # its local part, whatever it looks like
    (("{user}",), "a@xn--bcher-kva.test", "a@bücher.test", True),
    (("{user}",), "a@bücher.test", "a@xn--bcher-kva.test", True),
    (("{user}",), "ä@b.test", "ä@b.test", True),
    (("{user}",), "a\u0308@b.test", "ä@b.test", False),  # looks the same, and is another name
    (("{user}@b.test",), '"a"@b.test', "a", True),
    (("{user}@b.test",), '"\\a"@b.test', "a", True),
    (("{user}@b.test",), "a@b.test", None, False),
    (("{user}@b.test",), "a@b.test", '"a"', False),
    (("{user}@b.test",), '"a b"@b.test', "a b", True),
    (("{user}@b.test",), "a@c.test", "a@c.test", False),
    (("{user}@b.test",), "a@c.test", "a@c.test\0", False),
    (("{user}@b.test",), "a@c.test", "*", False),
    (("{user}@b.test",), "b.test@b.test", "b.test", True),
    (("{user}@b.test",), "{user}@b.test", "a", False),
    (("a@b.test",), '"a"@b.test', None, True),
    (("a@b.test",), "a+x@b.test", None, False),
    (("a@b.test",), '"a@b.test"@c.test', None, False),
    (("b.test",), '"a@b.test"@c.test', None, False),
    (("b.test",), "a%b.test@c.test", None, False),
    (("b.test",), "a@[192.0.2.1]", None, False),
    ((".b.test",), "a@[192.0.2.1]", None, False),
]


@pytest.mark.parametrize(("patterns", "text", "login", "expected"), PATTERNS)
def test_patterns(patterns: tuple[str, ...], text: str | None, login: str | None, expected: bool) -> None:
    address = None if text is None else parse_address(text.encode())
    assert Grant("x", senders=patterns).allows_sender(address, login) is expected
    if address is not None:
        assert Grant("x", header_from=patterns).allows_author(address, login) is expected
    if address is not None and login is None:
        assert Grant("x", recipients=patterns).allows_recipient(address) is expected


CHOICES: dict[str, list[tuple[object, ...]]] = {
    "networks": [
        networks(*texts) for texts in ((), ("192.0.2.0/24",), ("192.0.2.1/32",), ("192.0.2.0/24", "::/0"), ("::/0",))
    ],
    "users": [(), ("*",), ("alice",), ("alice", "bob")],
    "certificates": [(), ("*",), ("a.test",)],
    "listeners": [(), ("x",), ("x", "y")],
}
SOME_PEERS = [
    peer(address, login, *certificates, listener=listener)
    for address in ("192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1")
    for login in (None, "alice", "bob", "*")
    for certificates in ((), ("a.test",), ("b.test",))
    for listener in ("x", "y", "z")
]
SOME_GRANTS = st.builds(Grant, st.just("g"), **{key: st.sampled_from(values) for key, values in CHOICES.items()})


@given(SOME_GRANTS, SOME_GRANTS)
def test_a_table_that_covers_another_fits_all_that_the_other_fits(one: Grant, other: Grant) -> None:
    if one.covers(other):
        assert all(one.fits(client) for client in SOME_PEERS if other.fits(client))
