"""Mail that we did not shape, submitted by swaks and smtp-source, delivered over STARTTLS to a real Postfix.

What Postfix writes to its mailboxes must be what was submitted, octet for octet, below Relay's Received line.
Needs Debian's postfix and swaks, and root (Postfix's master gives up privileges itself).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from corpus import messages
from postfix_here import NEEDS_POSTFIX, Postfix, answers, free_port, wait_until

from relay.lab.certs import LabCa

pytestmark = [
    *NEEDS_POSTFIX,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("swaks") is None, reason="needs Debian's swaks"),
]

CORPUS = messages()
# smtp-source takes the octet 255 for the end of its file.
BY_SMTP_SOURCE = tuple(name for name in tuple(CORPUS)[::2] if b"\xff" not in CORPUS[name])


class Service:
    """`relay run` as a process of its own, with all mail going to one Postfix."""

    def __init__(self, folder: Path, next_hop: int, ca: LabCa) -> None:
        self.port = free_port()
        (folder / "ca.pem").write_bytes(ca.pem)
        settings = folder / "relay.toml"
        settings.write_text(f"""hostname = "relay.sender.test"
[submission]
listen = ["127.0.0.1:{self.port}"]
[queue]
path = "{folder}/state"
[tls]
ca_file = "{folder}/ca.pem"
[alignment]
check = "off"
[delivery]
next_hop = "127.0.0.1:{next_hop}"
allow_private_addresses = true
[[client]]
name = "as-it-is"
networks = ["127.0.0.1/32"]
headers = "leave"
""")
        self._log = (folder / "relay.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "relay", "run", "--config", str(settings)], stderr=self._log
        )
        wait_until("Relay", lambda: answers(self.port))

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(30) == 0
        self._log.close()


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[bytes]]:
    """Submit the whole corpus, wait for all of it, and give what Postfix wrote."""
    relay_folder = tmp_path_factory.mktemp("relay")
    ca = LabCa.make(datetime.now(UTC))
    # Not among pytest's own folders: another run of pytest closes those for other users, and Postfix is several.
    with TemporaryDirectory(prefix="relay-postfix-") as folder, closing(Postfix(Path(folder), ca)) as postfix:
        service = Service(relay_folder, postfix.port, ca)
        try:
            for name, octets in CORPUS.items():
                submit = smtp_source if name in BY_SMTP_SOURCE else swaks
                submit(service.port, relay_folder / f"{name}.eml", octets)
            wait_until("the mail", lambda: postfix.mail.is_dir() and len(list(postfix.mail.iterdir())) >= len(CORPUS))
        finally:
            service.stop()
        yield [path.read_bytes() for path in postfix.mail.iterdir()]


def swaks(port: int, path: Path, octets: bytes) -> None:
    """Send the octets as they are: dots stuffed and the end marked by us, since swaks is told to change nothing."""
    wire = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    path.write_bytes(wire + b".\r\n")
    command = ["swaks", "--server", "127.0.0.1", "--port", str(port), "--from", "s@sender.test", "--to", "r@real.test"]
    subprocess.run([*command, "--no-data-fixup", "--data", f"@{path}"], check=True, capture_output=True)


def smtp_source(port: int, path: Path, octets: bytes) -> None:
    """smtp-source stuffs the dots and ends the lines itself, and adds a blank line of its own at the end."""
    path.write_bytes(octets.replace(b"\r\n", b"\n"))
    command = ["smtp-source", "-F", str(path), "-f", "s@sender.test", "-t", "r@real.test", f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, capture_output=True)


def below_our_received(stored: bytes) -> bytes:
    """What stands below Relay's Received line in a file that Postfix wrote."""
    lines = stored.split(b"\n")
    ours = next(number for number, line in enumerate(lines) if b"by relay.sender.test" in line)
    end = next(number for number in range(ours + 1, len(lines)) if not lines[number].startswith((b" ", b"\t")))
    return b"\n".join(lines[end:])


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 30
    assert max(map(len, CORPUS.values())) > 5_000_000


@pytest.mark.parametrize("name", CORPUS)
def test_what_arrives_is_what_was_sent(name: str, arrived: list[bytes]) -> None:
    sent = CORPUS[name].replace(b"\r\n", b"\n")
    if name in BY_SMTP_SOURCE:
        sent += b"\n"
    if b"\n\n" not in sent and not sent.startswith(b"\n"):
        sent += b"\n"  # Postfix ends a header that has no body with a blank line
    found = [below_our_received(stored) for stored in arrived]
    assert found.count(sent) == 1, f"{name}: {[len(octets) for octets in found]} do not hold one of {len(sent)} octets"


def test_it_went_over_tls(arrived: list[bytes]) -> None:
    assert all(b"using TLSv1.3" in stored.split(b"by relay.sender.test")[0] for stored in arrived)
