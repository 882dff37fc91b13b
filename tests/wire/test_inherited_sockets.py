"""Sockets that systemd opens for us: sd_listen_fds(3), in a process that really inherits them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from submission_peer import Wanted, running

from relay.events import ListenerStarted
from relay.listen import inherited_sockets, listening_socket
from relay.settings import HostPort, ListenerSettings

# Takes the place of systemd: says which sockets are for this process, and becomes the program that is tried.
SYSTEMD = """
import os, sys
count = int(sys.argv[1])
os.environ["LISTEN_PID"] = str(os.getpid())
for number in range(count):
    os.dup2(int(sys.argv[2 + number]), 100 + number)
for number in range(count):
    os.dup2(100 + number, 3 + number)
    os.close(100 + number)
os.execv(sys.executable, [sys.executable, *sys.argv[2 + count:]])
"""
SHOW = """
import os
from relay.listen import inherited_sockets, ports_of
try:
    found = inherited_sockets(os.environ, os.getpid())
    print({name: [(sock.getsockname()[:2], sock.getblocking(), sock.get_inheritable()) for sock in sockets]
           for name, sockets in found.items()})
    print(sorted(ports_of(found)))
except ValueError as error:
    print(error)
print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
"""


def as_systemd(sockets: Sequence[socket.socket], names: str, *program: str, **environ: str) -> subprocess.Popen[str]:
    """The program, given these sockets."""
    numbers = [str(sock.fileno()) for sock in sockets]
    environ = {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names, **environ}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", SYSTEMD, str(len(numbers)), *numbers, *program],
        env={**clean, **environ},
        pass_fds=[sock.fileno() for sock in sockets],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shown(sockets: Sequence[socket.socket], names: str, **environ: str) -> list[str]:
    with as_systemd(sockets, names, "-c", SHOW, **environ) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


def place(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port


def test_sockets_come_by_their_names() -> None:
    """Several may have one name; they stay ours alone, do not block, and no child hears of them."""
    four, six, other = (listening_socket(HostPort(host=host, port=0)) for host in ("127.0.0.1", "::1", "127.0.0.1"))
    with four, six, other:
        found = {
            "mail": [(place(four), False, False), (place(other), False, False)],
            "six": [(place(six), False, False)],
        }
        ports = sorted(place(sock)[1] for sock in (four, six, other))
        assert shown([four, six, other], "mail:six:mail") == [str(found), str(ports), "[]"]


def test_sockets_of_somebody_else() -> None:
    with listening_socket(HostPort(host="127.0.0.1", port=0)) as sock:
        lines = shown([sock], "a:b")
        assert lines == ["LISTEN_FDNAMES has 2 names for 1 sockets", "[]"]
        assert shown([sock], "a", LISTEN_FDS="x") == ["LISTEN_FDS is 'x', not a number of sockets", "[]"]
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a", "HOME": "/"}
    assert inherited_sockets(environ, 2) == {}
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("family", "kind", "listens"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, False),
        (socket.AF_INET, socket.SOCK_STREAM, False),
        (socket.AF_UNIX, socket.SOCK_STREAM, True),
    ],
    ids=["UDP", "does not listen", "UNIX"],
)
def test_sockets_of_another_kind(
    family: socket.AddressFamily, kind: socket.SocketKind, listens: bool, tmp_path: Path
) -> None:
    with socket.socket(family, kind) as sock:
        sock.bind(str(tmp_path / "socket") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        if listens:
            sock.listen()
        assert shown([sock], "odd") == [
            "the socket odd of systemd is not one that listens for TCP (ListenStream=)",
            "[]",
        ]


def test_a_file_in_the_place_of_a_socket(tmp_path: Path) -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "log"}
    program = f"from relay.listen import *; import os; inherited_sockets({environ!r}, 7)"
    with (tmp_path / "file").open("w") as file, socket.socket() as fake:
        fake.close()
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({file.fileno()}, 3)\n{program}"],
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    last = done.stderr.splitlines()[-1]
    assert last == "ValueError: the socket log of systemd cannot be used: Socket operation on non-socket"


@pytest.mark.asyncio
async def test_clients_come_to_them(tmp_path: Path) -> None:
    sockets = tuple(listening_socket(HostPort(host=host, port=0)) for host in ("127.0.0.1", "::1"))
    table = ListenerSettings.model_validate({"name": "mail", "listen": ["systemd:mail"]})
    wanted = Wanted({"listen": ()}, {"listener": (table,)}, inherited={"mail": sockets})
    async with running(tmp_path, wanted) as server:
        assert server.count(ListenerStarted) == 2
        for number in (0, 1):
            async with await server.connect(number) as client:
                assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 ")
    assert all(sock.fileno() < 0 for sock in sockets)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((), "listener mail: systemd has given no socket mail"),
        (("mail", "more"), "systemd has given the socket more, which no listener names"),
    ],
)
async def test_names_that_do_not_fit(given: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    sockets = {name: (listening_socket(HostPort(host="127.0.0.1", port=0)),) for name in given}
    table = ListenerSettings.model_validate({"name": "mail", "listen": ["systemd:mail"]})
    with pytest.raises(ValueError, match=problem):
        async with running(tmp_path, Wanted({"listen": ()}, {"listener": (table,)}, inherited=sockets)):
            pass
    assert all(sock.fileno() < 0 for group in sockets.values() for sock in group)


def test_the_service_takes_mail_at_a_socket_of_systemd(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(
        f'hostname = "out.example.test"\nqueue.path = "{tmp_path}/queue"\ndns.nameservers = ["127.0.0.1:9"]\n'
        '[submission]\nlisten = []\n[[listener]]\nname = "mail"\nlisten = ["systemd:mail"]\n'
    )
    sock = listening_socket(HostPort(host="127.0.0.1", port=0))
    with as_systemd([sock], "mail", "-m", "relay", "run", "--config", str(file)) as process, sock:
        try:
            with socket.create_connection(place(sock), timeout=60) as client:  # it waits in the backlog until we are up
                lines = client.makefile("rb")
                assert lines.readline() == b"220 out.example.test ESMTP Relay\r\n"
                client.sendall(b"QUIT\r\n")
                assert lines.readline().startswith(b"221 ")
                lines.close()
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0
    # Started by hand, there is no such socket.
    done = subprocess.run(
        [sys.executable, "-m", "relay", "run", "--config", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "relay: listener mail: systemd has given no socket mail"
