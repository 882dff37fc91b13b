"""`relay health` asks every listener for its greeting, in the way that it wants to be asked."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from submission_peer import LOOPBACK, Wanted, lab_tls, running

from relay.events import ConnectionRefused
from relay.health import Asked, greeting_problem, problems, where_to_ask
from relay.settings import HostPort, ListenerSettings, ListenerTls, Settings, SubmissionSettings

PROXIES = ("127.0.0.0/8",)


def listener(name: str, place: HostPort | str = LOOPBACK, **more: object) -> ListenerSettings:
    return ListenerSettings.model_validate({"name": name, "listen": (place,), **more})


def asked(*listeners: ListenerSettings, listen: tuple[HostPort, ...] = ()) -> tuple[Asked, ...]:
    return where_to_ask(Settings(submission=SubmissionSettings(listen=listen), listener=listeners))


def test_where_to_ask() -> None:
    everywhere, far = HostPort(host="0.0.0.0", port=25), HostPort(host="192.0.2.1", port=465)
    six = HostPort(host="::", port=25)
    found = asked(
        listener("all", everywhere, proxy_from=PROXIES),
        listener("six", six, proxy_from=PROXIES),
        listener("far", far, tls=ListenerTls.IMPLICIT, proxy_from=("192.0.2.100/32",)),
        listener("own", far, tls=ListenerTls.REQUIRED, proxy_from=("192.0.2.0/24",)),
        listener("free", LOOPBACK),
        listener("systemd", "systemd:mail"),
        listen=(HostPort(host="127.0.0.1", port=2525),),
    )
    assert found == (
        Asked(HostPort(host="127.0.0.1", port=2525)),
        Asked(HostPort(host="127.0.0.1", port=25), as_proxy=True),
        Asked(HostPort(host="::1", port=25)),
        Asked(far, tls=True),
        Asked(far, as_proxy=True),
    )


@pytest.mark.asyncio
async def test_each_listener_is_asked_as_it_wants(tmp_path: Path) -> None:
    tables = [
        listener(f"{tls.value}-{len(proxies)}", tls=tls, proxy_from=proxies)
        for tls in ListenerTls
        for proxies in ((), PROXIES)
    ]
    async with running(tmp_path, Wanted({}, {"listener": tables}, tls=lab_tls())) as server:
        real = zip(["submission", *(one.name for one in tables)], server.addresses, strict=True)
        placed = [
            listener(name, place, tls=table.tls, proxy_from=table.proxy_from)
            for (name, place), table in zip(list(real)[1:], tables, strict=True)
        ]
        places = asked(*placed, listen=server.addresses[:1])
        assert len(places) == 9
        assert await problems(places, 10) == []
        assert server.count(ConnectionRefused) == 0  # it looks, and is no news
        with socket.create_server(("127.0.0.1", 0)) as silent:
            place = HostPort(host="127.0.0.1", port=silent.getsockname()[1])
            (problem,) = await problems((Asked(place), places[0]), 0.05)
        assert problem == f"{place}: no greeting within 0.05 s"
        assert await greeting_problem(Asked(place), 5) == "connection refused"
