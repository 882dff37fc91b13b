"""A real OpenDKIM on this machine, told what DNS says: over files, or as the milter of a mail server."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from postfix_here import free_port, takes_connections, wait_until

NEEDS_OPENDKIM = (
    pytest.mark.opendkim,
    pytest.mark.skipif(shutil.which("opendkim", path="/usr/sbin:/usr/bin") is None, reason="needs Debian's opendkim"),
)
AUTHSERV_ID = "mx.real.test"
_SAID = re.compile(r"(?m)^opendkim: (/\S+?): (.*)$")
_RESULT = re.compile(r"\bdkim=(\w+)(?:[^;]*\bheader\.s=([^\s;]+))?")


def verify_files(paths: Sequence[Path], records: Mapping[str, str], folder: Path) -> dict[Path, str]:
    """What OpenDKIM says of the topmost signature of each file: "pass", or why not.

    It stops at a file that it cannot read as a message: that one is not named in what it says, and the rest is asked
    for anew.
    """
    configuration = _configuration(folder, records)
    said: dict[Path, str] = {}
    left = list(paths)
    while left:
        command = ["/usr/sbin/opendkim", "-x", str(configuration), "-t", ",".join(map(str, left))]
        output = subprocess.run(command, capture_output=True, check=False, timeout=60).stdout.decode(errors="replace")
        for path, words in _SAID.findall(output):
            said[Path(path)] = "pass" if words.endswith("succeeded") else words
        rest = [path for path in left if path not in said]
        if rest:
            said[rest[0]] = "cannot be read"
            rest = rest[1:]
        left = rest
    return said


class OpenDkim:
    """A milter at `port` that adds Authentication-Results with what becomes of each signature."""

    def __init__(self, folder: Path, records: Mapping[str, str]) -> None:
        self.port = free_port()
        configuration = _configuration(
            folder,
            records,
            f"Socket inet:{self.port}@127.0.0.1\nAuthservID {AUTHSERV_ID}\nAlwaysAddARHeader yes\nNoHeaderB no\n"
            "InternalHosts 192.0.2.1\nOn-Default accept\nOn-BadSignature accept\nOn-Security accept\n",
        )
        self._process = subprocess.Popen(["/usr/sbin/opendkim", "-f", "-x", str(configuration)])
        try:
            wait_until("OpenDKIM", lambda: takes_connections(self.port))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.kill()  # asked to end, it takes seconds; it keeps nothing
        self._process.wait(20)


def results(stored: bytes) -> list[tuple[str, str]]:
    """What the milter wrote on top of a message: the verdict on each signature, and the signature's selector."""
    header = stored.partition(b"\n\n")[0].decode("latin-1")
    fields = re.split(r"\n(?![ \t])", header)
    found = [field for field in fields if field.startswith("Authentication-Results:") and AUTHSERV_ID in field]
    return _RESULT.findall(found[0]) if found else []


def _configuration(folder: Path, records: Mapping[str, str], more: str = "") -> Path:
    (folder / "records").write_text("".join(f"{name} {record}\n" for name, record in records.items()))
    path = folder / "opendkim.conf"
    # Its own limit for header sections is 64 KB, Relay's 256 KB.
    path.write_text(f"Mode v\nSyslog no\nMaximumHeaders 0\nTestDNSData file:{folder}/records\n{more}")
    return path
