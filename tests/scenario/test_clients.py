"""The programs that people submit mail with, each as it is installed, against `relay run` with three doors.

STARTTLS that must be used (as on 587), TLS from the first octet (as on 465), and a trusted network. What a client may
not do there must fail, and store nothing. Each needs its Debian package.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from postfix_here import Postfix, answers, free_port, needs_postfix, wait_until

from relay.lab.certs import LabCa, Leaf
from relay.submission.users_file import add_user

pytestmark = pytest.mark.timeout(120)

MESSAGE = b"From: a@a.test\r\nTo: b@b.test\r\nSubject: x\r\n\r\nhello\r\n.\r\n..\r\n"
NAME, PASSWORD = "alice", "pencil ü"
PACKAGES = {"s-nail": "s-nail", "smtp-source": "postfix"}  # where the program's name is not the package's


@dataclass(frozen=True)
class Doors:
    """A running relay: its ports, and the folder with message.eml, ca.pem and the log."""

    folder: Path
    starttls: int
    implicit: int
    trusted: int

    def accepted(self) -> list[str]:
        """The log's lines of messages that were taken."""
        lines = (self.folder / "log").read_text().splitlines()
        return [line for line in lines if "event=message-accepted" in line]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("clients")
    ca = LabCa.make(datetime.now(UTC))
    certificate, key = ca.issue(("localhost",)).write(folder)
    (folder / "ca.pem").write_bytes(ca.pem)
    (folder / "machine").mkdir()
    ca.issue(("machine.test",), Leaf.CLIENT_EKU).write(folder / "machine")
    (folder / "message.eml").write_bytes(MESSAGE)
    add_user(folder / "users", NAME, PASSWORD)
    doors = Doors(folder, free_port(), free_port(), free_port())
    (folder / "relay.toml").write_text(f"""hostname = "relay.test"
[submission]
listen = []
trusted_networks = []
tls_certificate = "{certificate}"
tls_key = "{key}"
users_file = "{folder}/users"
client_ca_file = "{folder}/ca.pem"
[[listener]]
name = "msa"
listen = ["127.0.0.1:{doors.starttls}"]
tls = "required"
[[listener]]
name = "msas"
listen = ["127.0.0.1:{doors.implicit}"]
tls = "implicit"
[[listener]]
name = "inside"
listen = ["127.0.0.1:{doors.trusted}"]
[[client]]
name = "inside"
networks = ["127.0.0.0/8"]
listeners = ["inside"]
[[client]]
name = "people"
users = ["*"]
[[client]]
name = "machines"
certificates = ["machine.test"]
[queue]
path = "{folder}/state"
[alignment]
check = "off"
[delivery]
next_hop = "127.0.0.1:{free_port()}"
allow_private_addresses = true
""")
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "relay", "run", "--config", str(folder / "relay.toml")]
        process = subprocess.Popen(command, stderr=log)
        try:
            wait_until("Relay", lambda: answers(doors.trusted))
            yield doors
        finally:
            process.terminate()
            assert process.wait(30) == 0


# What is run, by a shell in the folder, and how many messages are taken.
SWAKS = "swaks --from a@a.test --to b@b.test --body hello --timeout 20 -s localhost:"
MSMTP = "msmtp --file=/dev/null --host=localhost --tls-trust-file=ca.pem --from=a@a.test b@b.test <message.eml"
LOGIN = f"--auth-user {NAME} --auth-password '{PASSWORD}'"
MSMTP_LOGIN = f"--user={NAME} --passwordeval=\"echo '{PASSWORD}'\""
MSMTP_CERTIFICATE = "--tls-cert-file=machine/chain.pem --tls-key-file=machine/key.pem"
CURL = "curl -sS --cacert ca.pem --mail-from a@a.test --mail-rcpt b@b.test -T message.eml"
NAIL = "s-nail -:/ -Sv15-compat -Stls-ca-file=ca.pem -Stls-ca-no-defaults -Sfrom=a@a.test -s x"
NAIL_LOGIN = f"://{NAME}:pencil%20%C3%BC@localhost:"
COMMANDS: dict[str, tuple[str, int]] = {
    "swaks, PLAIN after STARTTLS": (SWAKS + "{starttls} -tls --auth PLAIN " + LOGIN, 1),
    "swaks, LOGIN over TLS": (SWAKS + "{implicit} -tlsc --auth LOGIN " + LOGIN, 1),
    "swaks, PLAIN in a pipeline": (SWAKS + "{starttls} -tls --pipeline --auth PLAIN " + LOGIN, 1),
    "swaks, CRAM-MD5 is not on offer": (SWAKS + "{implicit} -tlsc --auth CRAM-MD5 " + LOGIN, 0),
    "swaks, no login": (SWAKS + "{starttls} -tls", 0),
    "swaks, no TLS": (SWAKS + "{starttls}", 0),
    "swaks, a login without TLS": (SWAKS + "{starttls} --auth PLAIN " + LOGIN, 0),
    "swaks, HELO": (SWAKS + "{trusted} --protocol SMTP", 1),
    "swaks, an attachment": (SWAKS + "{trusted} --attach @relay.toml --attach @ca.pem", 1),
    "swaks, a pipeline with bad recipients": (SWAKS + "{trusted} --pipeline --to b@b.test,bad,postmaster,c@b.test", 1),
    "smtp-source, many sessions": ("smtp-source -m 100 -s 20 -f a@a.test -t b@b.test 127.0.0.1:{trusted}", 100),
    "smtp-source, sessions kept": ("smtp-source -d -m 50 -s 5 -r 5 -f a@a.test -t b@b.test 127.0.0.1:{trusted}", 50),
    "smtp-source, large messages": ("smtp-source -l 500000 -m 2 -f a@a.test -t b@b.test 127.0.0.1:{trusted}", 2),
    "curl, STARTTLS": (CURL + " --ssl-reqd smtp://localhost:{starttls} -u '" + f"{NAME}:{PASSWORD}'", 1),
    "curl, TLS": (CURL + " smtps://localhost:{implicit} -u '" + f"{NAME}:{PASSWORD}'", 1),
    "curl, wrong password": (CURL + " --ssl-reqd smtp://localhost:{starttls} -u alice:wrong", 0),
    "curl, a trusted network": (CURL + " smtp://localhost:{trusted}", 1),
    "msmtp, PLAIN after STARTTLS": (f"{MSMTP} --port={{starttls}} --tls=on --auth=plain {MSMTP_LOGIN}", 1),
    "msmtp, LOGIN over TLS": (f"{MSMTP} --port={{implicit}} --tls=on --tls-starttls=off --auth=login {MSMTP_LOGIN}", 1),
    "msmtp, SCRAM-SHA-256": (f"{MSMTP} --port={{starttls}} --tls=on --auth=scram-sha-256 {MSMTP_LOGIN}", 1),
    "msmtp, as it likes": (f"{MSMTP} --port={{starttls}} --tls=on --auth=on {MSMTP_LOGIN}", 1),
    "msmtp, a certificate": (f"{MSMTP} --port={{starttls}} --tls=on {MSMTP_CERTIFICATE}", 1),
    "msmtp, EXTERNAL": (
        f"{MSMTP} --port={{starttls}} --tls=on {MSMTP_CERTIFICATE} --auth=external --user=machine.test", 1
    ),
    "msmtp, DSN": (f"{MSMTP} --port={{trusted}} --dsn-notify=failure,delay --dsn-return=headers", 1),
    "s-nail, STARTTLS": (
        f"{NAIL} -Smta=smtp{NAIL_LOGIN}{{starttls}} -Ssmtp-use-starttls -Ssmtp-auth=plain b@b.test </dev/null", 1
    ),
    "s-nail, TLS": (f"{NAIL} -Smta=smtps{NAIL_LOGIN}{{implicit}} -Ssmtp-auth=login b@b.test </dev/null", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_client(name: str, doors: Doors) -> None:
    program = name.partition(",")[0]
    if shutil.which(program) is None:
        pytest.skip(f"needs Debian's {PACKAGES.get(program, program)}")
    command, expected = COMMANDS[name]
    for door in ("starttls", "implicit", "trusted"):
        command = command.replace(f"{{{door}}}", str(getattr(doors, door)))
    before = len(doors.accepted())
    home = os.environ | {"HOME": str(doors.folder)}
    ran = subprocess.run(command, shell=True, cwd=doors.folder, env=home, capture_output=True, timeout=60, check=False)
    assert (ran.returncode == 0) == (expected > 0), ran.stdout + ran.stderr
    taken = doors.accepted()[before:]
    assert len(taken) == expected
    login = "machine.test" if "EXTERNAL" in name else NAME if "pencil" in COMMANDS[name][0] else None
    assert all(f"login={login}" in line if login is not None else "login=" not in line for line in taken)


@pytest.mark.skipif(not list(Path("/usr/lib").glob("*/sasl2/libplain.so")), reason="needs Debian's libsasl2-modules")
@needs_postfix
def test_a_postfix_with_relay_as_its_smart_host(doors: Doors) -> None:
    """One domain goes to the door for users, with a login after STARTTLS, the other to the one that trusts us."""
    users, inside = f"[127.0.0.1]:{doors.starttls}", f"[127.0.0.1]:{doors.trusted}"
    settings = {
        "mynetworks": "127.0.0.0/8",
        "smtpd_tls_security_level": "none",
        "smtpd_relay_restrictions": "permit_mynetworks reject",
        "virtual_mailbox_domains": "",
        "transport_maps": f"inline:{{{{ users.test = smtp:{users} }} {{ inside.test = smtp:{inside} }}}}",
        "smtp_tls_policy_maps": f"inline:{{{{ {users} = encrypt }} {{ {inside} = none }}}}",
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"inline:{{{{ {users} = {NAME}:{PASSWORD} }}}}",
        "smtp_sasl_security_options": "noanonymous",
    }
    before = len(doors.accepted())
    envelopes = (("a@a.test", "b"), ("", "b"), ("\u00e4@a.test", "\u00f6"))
    # Not among pytest's own folders: another run of pytest closes those for other users, and Postfix is several.
    with (
        TemporaryDirectory(prefix="relay-postfix-") as folder,
        closing(Postfix(Path(folder), LabCa.make(datetime.now(UTC)), settings)) as postfix,
        smtplib.SMTP("127.0.0.1", postfix.port) as client,
    ):
        for domain in ("users.test", "inside.test"):
            for sender, local in envelopes:
                message = EmailMessage(policy=SMTPUTF8)
                message["From"] = "a@a.test"  # which nobody can make of the null sender
                client.send_message(message, sender, [f"{local}@{domain}", f"c@{domain}"])
            to, eight_bit = f"b@{domain}", b"Subject: x\r\n\r\n\xff\r\n"
            client.sendmail("a@a.test", [to], eight_bit, ["BODY=8BITMIME"], ["NOTIFY=FAILURE,DELAY"])
        wait_until("Postfix", lambda: len(doors.accepted()) - before >= 8)
        log = (Path(folder) / "maillog").read_text()
    taken = doors.accepted()[before:]
    assert "status=bounced" not in log and "status=deferred" not in log
    assert (len(taken), sum(f"login={NAME}" in line for line in taken)) == (8, 4)
