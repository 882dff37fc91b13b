"""Where mail goes and what hosts say: MX and address records, routes of the settings, replies, broken sessions.

RFC 5321, RFC 7505; docs/routes.md.
"""

from __future__ import annotations

from dataclasses import replace

from relay.lab.catalogue_time import GREYLISTING
from relay.lab.catalogue_tls import ENCRYPTED, VERIFIED
from relay.lab.certs import Leaf
from relay.lab.scenario import Expected, Host, Phase, Route, Scenario, failed, healed, refused
from relay.lab.script import Break, SinkScript, Stage
from relay.lab.zones import Fault
from relay.policy.override import OverrideLevel
from relay.route_settings import Action

_MX = ("@", "MX")
_BUSY_ONCE = Host(script=SinkScript(greeting=("421 4.3.2 busy", "220 ready")))

_ROUTES = (
    Scenario("null-mx", "null MX", failed("556 5.1.10"), hosts=(), mx_records=("0 .",)),
    Scenario("no-such-domain", "nothing: no such name", failed("550 5.1.2"), hosts=(), exists=False),
    Scenario("no-mail-host", "neither MX nor address", failed("550 5.1.2"), hosts=(), mx_records=()),
    Scenario("implicit-mx", "an address, no MX", ENCRYPTED, (Host("@"),), mx_records=()),
    Scenario("mx-without-address", "MX without address", failed("550 5.4.4"), hosts=(), mx_records=("10 mx",)),
    Scenario("mx-servfail", "MX: SERVFAIL, then an answer", healed("4.3", "encrypted"), faults={_MX: Fault.SERVFAIL},
             then=(Phase(faults={}),)),
    Scenario("mx-timeout", "MX: no answer", refused("4.3", 550), faults={_MX: Fault.TIMEOUT}),
    Scenario("host-down", "nothing; down, then up", healed("4.1", "encrypted"), (Host(up=False),),
             then=(Phase((Host(),)),)),
    Scenario(
        "null-mx-later",
        "nothing; greylisting; then null MX",
        Expected((("deferred 4.7.1", "20m: failed 5.1.10"),), "none", "556 5.1.10"),
        (GREYLISTING,),
        then=(Phase(mx_records=("0 .",)),),
    ),
    Scenario(
        "domain-gone",
        "nothing; greylisting; then no such name",
        Expected((("deferred 4.7.1", "20m: failed 5.1.2"),), "none", "550 5.1.2"),
        (GREYLISTING,),
        then=(Phase(faults={("@", "ANY"): Fault.NXDOMAIN}),),
    ),
)  # fmt: skip

_REPLIES = (
    Scenario("greylisted", "nothing; greylisting", healed("7.1", "encrypted"), (GREYLISTING,)),
    Scenario("busy-once", "nothing; 421 at first", healed("3.2", "encrypted"), (_BUSY_ONCE,)),
    Scenario(
        "one-of-two-refused",
        "nothing; no such user",
        Expected((("delivered 2.0.0",), ("failed 5.1.1",)), "encrypted", "550 5.1.1"),
        (Host(script=SinkScript(rcpt={"eve@one-of-two-refused.test": ("550 5.1.1 no such user",)})),),
        recipients=("bob", "eve"),
    ),
    Scenario(
        "lost-after-final-dot",
        "nothing; hangs up after the final dot",
        healed("4.2", "encrypted"),
        (Host(script=SinkScript(breaks=(Break(Stage.FINAL_DOT, times=1),))),),
    ),
)

_DOWN_AND_UP = (Host("one", up=False), Host("two"))
_LOGIN = Route(("mx.{domain}",), user="us")


def _asks_login(password: str) -> Host:
    return Host(script=SinkScript(users={"us": password}, tls_extensions=("AUTH PLAIN LOGIN",)))


_BY_NAME = ("one.{domain}", "two.{domain}")

_SET = (
    Scenario("route-failover", "route to two hosts; one is down", ENCRYPTED, _DOWN_AND_UP, mx_records=("0 .",),
             route=Route(_BY_NAME)),
    Scenario("route-greylisted", "route to two hosts; greylisting", ENCRYPTED,
             (replace(GREYLISTING, label="one"), Host("two")), mx_records=("0 .",), route=Route(_BY_NAME)),
    Scenario("route-mx", "route by MX", ENCRYPTED, _DOWN_AND_UP, route=Route(("{domain}",), mx=True)),
    Scenario("route-verify", "route that verifies", VERIFIED, route=Route(("mx.{domain}",), OverrideLevel.VERIFY)),
    Scenario("route-verify-self-signed", "route that verifies; self-signed", refused("7.5"),
             (Host(leaf=Leaf.SELF_SIGNED),), route=Route(("mx.{domain}",), OverrideLevel.VERIFY)),
    Scenario("route-encrypt-no-starttls", "route that encrypts; no STARTTLS", refused("7.4"), (Host(leaf=None),),
             route=Route(("mx.{domain}",), OverrideLevel.ENCRYPT)),
    Scenario("route-login", "route that logs in", VERIFIED, (_asks_login("correct horse"),), route=_LOGIN),
    Scenario("route-login-refused", "route that logs in; refused", replace(refused("7.8", 535), tls="verified"),
             (_asks_login("another"),), route=_LOGIN),
    Scenario("route-login-self-signed", "route that logs in; self-signed", refused("7.5"),
             (replace(_asks_login("correct horse"), leaf=Leaf.SELF_SIGNED),), route=_LOGIN),
    Scenario("route-without-address", "route to no address, then to one", healed("4.4", "encrypted"), (),
             mx_records=(), route=Route(("mx.{domain}",)), then=(Phase((Host(),)),)),
    Scenario("route-discard", "route to nowhere", Expected((("dropped 2.0.0",),), "none"),
             route=Route(action=Action.DISCARD)),
)  # fmt: skip

SCENARIOS = _ROUTES + _REPLIES + _SET
