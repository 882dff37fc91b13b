"""The service does not begin when it does not know which policies are in force."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from relay.lookup.sts_cache import FILE_NAME


def test_a_file_of_policies_that_cannot_be_opened(tmp_path: Path) -> None:
    """Mail to a domain whose policy is in it would go out unchecked."""
    (tmp_path / FILE_NAME).mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    settings = {"RELAY_SUBMISSION__LISTEN": "127.0.0.1:0", "RELAY_QUEUE__PATH": str(tmp_path)}
    settings["RELAY_DNS__TRUST_AD"] = "no"
    command = [sys.executable, "-m", "relay", "run"]
    done = subprocess.run(command, env=environ | settings, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"relay: {tmp_path / FILE_NAME} cannot be opened (unable to open database file)"
    )
    assert "listener-started" not in done.stderr
