"""Our Received line: folded, ASCII, and nothing that a client says breaks out of its place in it."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from email.parser import HeaderParser
from email.policy import SMTP

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.policy.clients import Grant, Peer
from relay.settings import HostPort, ListenerSettings
from relay.submission.received import Client, received_line

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
ID = "01abcdefghjkm"
HOST = "relay.example.test"
LISTENER = ListenerSettings(name="x", listen=(HostPort(host="127.0.0.1", port=0),))
TLS = ("TLSv1.3", "TLS_AES_256_GCM_SHA384")


def client(
    helo: str = "client.example.test",
    address: str = "192.0.2.1",
    *,
    extended: bool = True,
    tls: tuple[str, str] | None = None,
    login: str | None = None,
    hidden: bool = False,
) -> Client:
    peer = Peer(ipaddress.ip_address(address), "x", login=login)
    listener = LISTENER.model_copy(update={"hide_client": hidden})
    return Client(peer, helo, extended, tls, listener, Grant("x"))


def unfolded(line: bytes) -> str:
    return re.sub(r"\r\n[ \t]", " ", line.decode("ascii")).removesuffix("\r\n")


def test_word_for_word() -> None:
    assert received_line(client(), HOST, False, ID, NOW) == (
        b"Received: from client.example.test ([192.0.2.1]) by relay.example.test\r\n"
        b"\twith ESMTP id 01abcdefghjkm; Wed, 04 Mar 2026 05:06:07 +0000\r\n"
    )


def test_with_tls_and_login() -> None:
    line = received_line(client(tls=TLS, login="alice", address="2001:db8::1"), HOST, True, ID, NOW)
    assert unfolded(line) == (
        "Received: from client.example.test ([IPv6:2001:db8::1]) by relay.example.test with UTF8SMTPSA "
        "(TLSv1.3 TLS_AES_256_GCM_SHA384) id 01abcdefghjkm; Wed, 04 Mar 2026 05:06:07 +0000"
    )
    assert b"alice" not in line  # who logs in is nobody else's business


def test_a_hidden_client() -> None:
    line = received_line(client(tls=TLS, login="alice", hidden=True), HOST, False, ID, NOW)
    assert unfolded(line) == (
        "Received: by relay.example.test with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384) "
        "id 01abcdefghjkm; Wed, 04 Mar 2026 05:06:07 +0000"
    )


# RFC 3848, RFC 6531 section 4.3: extended, TLS, login, SMTPUTF8 -> with
PROTOCOLS = [
    (False, None, None, False, "SMTP"),
    (False, TLS, None, False, "SMTP"),
    (True, None, None, False, "ESMTP"),
    (True, TLS, None, False, "ESMTPS"),
    (True, TLS, "alice", False, "ESMTPSA"),
    (True, TLS, "", False, "ESMTPS"),
    (True, None, None, True, "UTF8SMTP"),
    (True, TLS, None, True, "UTF8SMTPS"),
    (True, TLS, "alice", True, "UTF8SMTPSA"),
]


@pytest.mark.parametrize(("extended", "tls", "login", "smtputf8", "expected"), PROTOCOLS)
def test_with(extended: bool, tls: tuple[str, str] | None, login: str | None, smtputf8: bool, expected: str) -> None:
    line = received_line(client(extended=extended, tls=tls, login=login), HOST, smtputf8, ID, NOW)
    found = re.search(r" with (\S+) ", unfolded(line))
    assert found is not None
    assert found[1] == expected
    assert ("TLSv1.3" in unfolded(line)) == (tls is not None)


HELOS = {
    "client.example.test": "client.example.test",
    "CLIENT": "client",
    "exämple.test": "xn--exmple-cua.test",
    "[192.0.2.7]": "[192.0.2.7]",
    "[IPv6:2001:DB8::0]": "[IPv6:2001:db8::]",
    "my_pc": "my_pc",
    "x by evil.test with ESMTPSA": "x?by?evil.test?with?ESMTPSA",
    "x (evil)": "x??evil?",
    "x)": "x?",
    "x; Wed": "x??Wed",
    'x"y\\z': "x?y?z",
    "<x@y>": "?x?y?",
    "x\ty": "x?y",
    "\udcff\udcfe": "??",
    "ä\u2028b.": "??b.",
    "-": "-",
    "[]": "[]",
    "?" * 300: "?" * 255,
    ".".join(["x" * 60] * 5): ".".join(["x" * 60] * 5)[:255],
}


@pytest.mark.parametrize("helo", HELOS)
def test_helo(helo: str) -> None:
    line = unfolded(received_line(client(helo), HOST, False, ID, NOW))
    assert line.startswith(f"Received: from {HELOS[helo]} ([192.0.2.1]) by relay.example.test with ESMTP id ")


HOSTILE = st.text(st.characters() | st.sampled_from('\r\n\0 \t();:<>"\\[].\udcff\u2028éxX-_='), max_size=300)


@given(HOSTILE)
@example("a\r\nBcc: evil@example.test")
@example("xn--\u0308")
@example("\u2260.x")
@example("a" * 64)
@example("[IPv6:fe80::1%eth0]")
@example("")
def test_nothing_breaks_out(helo: str) -> None:
    line = received_line(client(helo, tls=TLS), HOST, False, ID, NOW)
    assert re.fullmatch(rb"Received: (?:[ -~]+)\r\n(?:\t[!-~][ -~]*\r\n)*", line)
    for part in line.split(b"\r\n"):
        assert len(part) <= 78 or b" " not in part.strip(
            b"\t"
        )  # RFC 5322 section 2.1.1, where there is a blank to fold
        assert len(part) < 998
    found = re.fullmatch(
        r"Received: from ([A-Za-z0-9._:?\[\]-]+) \(\[192\.0\.2\.1\]\) by relay\.example\.test with ESMTPS "
        r"\(TLSv1\.3 TLS_AES_256_GCM_SHA384\) id 01abcdefghjkm; Wed, 04 Mar 2026 05:06:07 \+0000",
        unfolded(line),
    )
    assert found is not None
    message = HeaderParser(policy=SMTP).parsestr((line + b"Subject: x\r\n\r\n").decode("ascii"))
    assert message.keys() == ["Received", "Subject"]


def test_each_message_has_its_own_time() -> None:
    times = [NOW, NOW + timedelta(seconds=1), NOW - timedelta(days=31), NOW]
    shown = [unfolded(received_line(client(), HOST, False, ID, now)).partition("; ")[2] for now in times]
    assert shown == [
        "Wed, 04 Mar 2026 05:06:07 +0000",
        "Wed, 04 Mar 2026 05:06:08 +0000",
        "Sun, 01 Feb 2026 05:06:07 +0000",
        "Wed, 04 Mar 2026 05:06:07 +0000",
    ]
