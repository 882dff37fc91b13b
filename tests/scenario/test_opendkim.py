"""Odd messages that Relay has signed, before a real OpenDKIM: as files, and as the milter of a real Postfix.

Debian's OpenDKIM knows ed25519-sha256 too, so both signatures of each message are looked at.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dkim_oracle import RECORDS, SELECTORS, signed, signer
from odd_messages import bare, mended, messages
from opendkim_here import NEEDS_OPENDKIM, OpenDkim, results, verify_files
from postfix_here import PATIENCE_SECONDS, Postfix, needs_postfix
from signing_relay import signing_relay, submit_all

from relay.lab.certs import LabCa
from relay.signing_settings import Canonicalization
from relay.submission.lines import normalise

pytestmark = [*NEEDS_OPENDKIM, pytest.mark.timeout(180)]

MESSAGES = messages() | mended()
REAL = "real.test"
PASS = [("pass", selector) for selector in SELECTORS]
LARGE = 40_000  # octets
# It looks at no message with a DKIM-Signature that has no tags at all, and takes no files with blanks before a colon.
UNTOLD = {"dkim-broken"}
UNREADABLE = UNTOLD | {name for name in MESSAGES if name.endswith("before-colon")}
# From files, but not from Postfix, it takes all blanks after a colon for one space, which `simple` does not forgive.
_ONE_SPACE = re.compile(rb"(?im)^[!-9;-~]+:(?! [^ \t\r])")
_TOPMOST = re.compile(rb"DKIM-Signature:.*?\r\n(?![ \t])", re.DOTALL)


def each_on_top(octets: bytes) -> tuple[bytes, bytes]:
    """The message with both signatures, and with the second alone: of files OpenDKIM looks at the topmost only."""
    return octets, _TOPMOST.sub(b"", octets, count=1)


def with_one_space(octets: bytes) -> bool:
    """Whether one space stands after the colon of each field."""
    return not _ONE_SPACE.search(octets.partition(b"\r\n\r\n")[0])


@pytest.mark.parametrize("canonicalization", Canonicalization)
def test_every_signature_verifies(canonicalization: Canonicalization, tmp_path: Path) -> None:
    """In all forms: every message in the usual one, a third of them in the others."""
    by = signer(canonicalization)
    chosen = messages() | {name: normalise(octets) for name, octets in bare().items()}
    if canonicalization is not Canonicalization.RELAXED_RELAXED:
        chosen = {name: octets for name, octets in list(chosen.items())[::3] if len(octets) < LARGE}
    if canonicalization.value.startswith("simple"):
        chosen = {name: octets for name, octets in chosen.items() if with_one_space(octets)}
    files = {}
    for name, octets in chosen.items():
        for selector, one in zip(SELECTORS, each_on_top(signed(octets, by)), strict=True):
            path = files[name, selector] = tmp_path / f"{name}.{selector}"
            path.write_bytes(one)
    said = verify_files(list(files.values()), RECORDS, tmp_path)
    wrong = {key: said[path] for key, path in files.items() if said[path] != "pass"}
    assert len(files) > 100
    assert {key: why for key, why in wrong.items() if key[0] not in UNREADABLE} == {}
    assert set(wrong.values()) <= {"cannot be read"}


def test_a_change_is_noticed(tmp_path: Path) -> None:
    """Of both kinds of signature: what it says of ed25519-sha256 is no empty word."""
    octets = signed(MESSAGES["body-runs"], signer(Canonicalization.RELAXED_RELAXED))
    paths = {}
    for selector, one in zip(SELECTORS, each_on_top(octets), strict=True):
        for change, (before, after) in {"body": (b" g ", b" h "), "subject": (b"Hello", b"Other")}.items():
            path = paths[selector, change] = tmp_path / f"{selector}-{change}"
            path.write_bytes(one.replace(before, after))
            assert path.read_bytes() != one
    said = verify_files(list(paths.values()), RECORDS, tmp_path)
    assert ["failed" in said[path] for path in paths.values()] == [True] * 4, said


@pytest.fixture(scope="module")
def hosts() -> Iterator[Postfix]:
    """A Postfix that asks OpenDKIM about each message."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="relay-postfix-")))
        for name in ("postfix", "opendkim"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        milter = stack.enter_context(closing(OpenDkim(folder / "opendkim", RECORDS)))
        settings = {
            "smtpd_milters": f"inet:127.0.0.1:{milter.port}",
            "milter_default_action": "tempfail",
            "smtpd_tls_security_level": "none",
            "hopcount_limit": "200",
        }
        ca = LabCa.make(datetime.now(UTC))
        yield stack.enter_context(closing(Postfix(folder / "postfix", ca, settings)))


@needs_postfix
@pytest.mark.asyncio
async def test_every_message_verifies_behind_postfix(hosts: Postfix, tmp_path: Path) -> None:
    """All messages in the usual form, and those with odd blanks after a colon also with `simple`."""
    spaced = {f"{name}.simple": octets for name, octets in MESSAGES.items() if not with_one_space(octets)}
    async with signing_relay(tmp_path / "relaxed", {REAL: hosts.port}, "relaxed/relaxed") as relaxed:
        await submit_all(relaxed.port, MESSAGES, dict.fromkeys(MESSAGES, (REAL,)))
        async with signing_relay(tmp_path / "simple", {REAL: hosts.port}, "simple/simple") as simple:
            await submit_all(simple.port, spaced, dict.fromkeys(spaced, (REAL,)))
            arrived = await _wait_for(hosts.mail, len(MESSAGES | spaced))
    assert arrived.keys() == MESSAGES.keys() | spaced.keys()
    found = {name: results(octets) for name, octets in arrived.items()}
    wrong = {name: found[name] for name in found if name.partition(".")[0] not in UNTOLD and found[name][:2] != PASS}
    assert wrong == {}


async def _wait_for(maildir: Path, count: int) -> dict[str, bytes]:
    """By the local part that each message was for."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not maildir.is_dir() or len(list(maildir.iterdir())) < count:
            await asyncio.sleep(0.05)
    named = {}
    for path in maildir.iterdir():
        octets = path.read_bytes()
        to = re.search(rb"(?m)^X-Original-To: (\S+)@", octets)
        assert to is not None
        named[to[1].decode()] = octets
    return named
