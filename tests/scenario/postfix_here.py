"""A real Postfix on this machine, in a folder of its own, and waiting for it. Needs root: its master starts as root."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from relay.lab.certs import LabCa

PATIENCE_SECONDS = 60.0
NEEDS_POSTFIX = (
    pytest.mark.postfix,
    pytest.mark.skipif(shutil.which("postfix", path="/usr/sbin:/usr/bin") is None, reason="needs Debian's postfix"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: Postfix's master starts as root"),
)

Test = TypeVar("Test", bound=Callable[..., object])


def needs_postfix(test: Test) -> Test:
    """Marks a test as one of those; it is left out where they cannot run."""
    for mark in NEEDS_POSTFIX:
        test = mark(test)
    return test


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > end:
            pytest.fail(f"waited too long for {what}")
        time.sleep(0.05)


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    return True


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False


class Postfix:
    """A Postfix of its own in `folder`: takes mail for real.test over STARTTLS, and keeps it in one maildir.

    `settings`: more for its main.cf, or other than that.
    """

    def __init__(self, folder: Path, ca: LabCa, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self._configuration = folder / "conf"
        for name in ("conf", "queue", "data", "mail", "tls"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        shutil.chown(folder / "mail", "nobody")
        folder.chmod(0o755)
        self.mail = folder / "mail" / "box" / "new"
        certificate, key = ca.issue(("mx.real.test",)).write(folder / "tls")
        nobody = pwd.getpwnam("nobody")
        main = {
            "compatibility_level": "3.6",
            "queue_directory": f"{folder}/queue",
            "data_directory": f"{folder}/data",
            "command_directory": "/usr/sbin",
            "daemon_directory": "/usr/lib/postfix/sbin",
            "meta_directory": "/etc/postfix",
            "shlib_directory": "/usr/lib/postfix",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "myhostname": "mx.real.test",
            "mydestination": "",
            "mynetworks": "",
            "local_header_rewrite_clients": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": f"{certificate}",
            "smtpd_tls_key_file": f"{key}",
            "smtpd_tls_received_header": "yes",
            "smtputf8_enable": "yes",
            "message_size_limit": "104857600",
            "virtual_mailbox_limit": "0",
            "virtual_mailbox_domains": "real.test",
            "virtual_mailbox_base": f"{folder}/mail",
            "virtual_mailbox_maps": "static:box/",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "maillog_file": f"{folder}/maillog",
            "maillog_file_prefixes": "/",
            "alias_maps": "",
            "alias_database": "",
        } | dict(settings or {})
        (self._configuration / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        (self._configuration / "master.cf").write_text(f"""
{self.port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""")
        subprocess.run(["/usr/sbin/postfix", "-c", str(self._configuration), "check"], check=True, capture_output=True)
        self._master = subprocess.Popen(
            ["/usr/lib/postfix/sbin/master", "-c", str(self._configuration), "-d"], start_new_session=True
        )
        try:
            wait_until("Postfix", lambda: answers(self.port))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._master.terminate()
        self._master.wait(20)
