"""Where mail from the command line goes, and what TLS it needs there."""

from __future__ import annotations

from typing import Any

import pytest

from relay.posting.place import Server, is_loopback, own_listener
from relay.settings import HostPort, Settings
from relay.submission_settings import ListenerTls


def listener(*places: str, **more: Any) -> dict[str, Any]:
    return {"name": f"x{len(places)}{len(more)}", "listen": list(places), **more}


@pytest.mark.parametrize(
    ("submission", "tables", "place"),
    [
        ({}, [], ("127.0.0.1:2525", ListenerTls.STARTTLS)),
        ({"listen": ["0.0.0.0:25"]}, [], ("127.0.0.1:25", ListenerTls.STARTTLS)),
        ({"listen": ["[::]:25"]}, [], ("[::1]:25", ListenerTls.STARTTLS)),
        ({"listen": ["192.0.2.1:25"]}, [], ("192.0.2.1:25", ListenerTls.STARTTLS)),
        ({"listen": ["127.0.0.1:0"], "listen_tls": ["127.0.0.1:465"]}, [], ("127.0.0.1:465", ListenerTls.IMPLICIT)),
        ({"listen": []}, [listener("systemd:smtp", "127.0.0.1:26", tls="none")], ("127.0.0.1:26", ListenerTls.NONE)),
        (
            {"listen": []},
            [listener("0.0.0.0:26", proxy_from=["127.0.0.0/8"]), listener("127.0.0.1:27", tls="required")],
            ("127.0.0.1:27", ListenerTls.REQUIRED),
        ),
        ({"listen": []}, [listener("systemd:smtp")], None),
    ],
)
def test_the_first_listener_that_can_be_reached(
    submission: dict[str, Any], tables: list[Any], place: tuple[str, ListenerTls] | None
) -> None:
    settings = Settings.model_validate({"submission": submission, "listener": tables})
    found = own_listener(settings)
    assert (None if found is None else (str(found[0]), found[1])) == place


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("192.0.2.1", False),
        ("a.test", False),
    ],
)
def test_which_names_mean_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here


STARTTLS, REQUIRED, IMPLICIT, NONE = (
    ListenerTls.STARTTLS,
    ListenerTls.REQUIRED,
    ListenerTls.IMPLICIT,
    ListenerTls.NONE,
)


@pytest.mark.parametrize(
    ("tls", "user", "here", "must_have_tls", "verified"),
    [
        (STARTTLS, "", False, False, False),
        (STARTTLS, "me", False, True, True),
        (STARTTLS, "me", True, False, False),
        (REQUIRED, "", False, True, True),
        (REQUIRED, "", True, True, False),
        (IMPLICIT, "", False, True, True),
        (IMPLICIT, "me", True, True, False),
        (NONE, "", False, False, False),
        (NONE, "me", False, True, True),  # and there is none: nothing is sent
    ],
)
def test_when_tls_must_be_there_and_proven(
    tls: ListenerTls, user: str, here: bool, must_have_tls: bool, verified: bool
) -> None:
    server = Server(HostPort(host="192.0.2.1", port=25), tls, "x.test", user, "secret", here=here)
    assert (server.must_have_tls, server.verified) == (must_have_tls, verified)
    assert "secret" not in repr(server)
