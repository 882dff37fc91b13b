"""No policy at all: TLS when it works, clear text otherwise, and never a reason to keep mail back. RFC 7435."""

from __future__ import annotations

import ssl

from relay.lab.certs import Leaf
from relay.lab.scenario import Host, Scenario, delivered
from relay.lab.script import Break, How, SinkScript, Stage

VERIFIED, ENCRYPTED, CLEAR = delivered("verified"), delivered("encrypted"), delivered("none")

GOOD = Host()
EXPIRED = Host(leaf=Leaf.EXPIRED)
SELF_SIGNED = Host(leaf=Leaf.SELF_SIGNED)
NO_STARTTLS = Host(leaf=None)
OLD_TLS = Host(newest=ssl.TLSVersion.TLSv1_1)
STARTTLS_454 = Host(script=SinkScript(starttls=("454 4.7.0 TLS not available",)))
STARTTLS_502 = Host(script=SinkScript(starttls=("502 5.5.1 not implemented",)))
INJECTS = Host(script=SinkScript(starttls=(b"220 go ahead\r\n250 and something in clear text\r\n",)))
HANGS_UP = Host(script=SinkScript(breaks=(Break(Stage.HANDSHAKE),)))
GARBAGE = Host(script=SinkScript(breaks=(Break(Stage.HANDSHAKE, How.GARBAGE),)))
STALLS_ONCE = Host(script=SinkScript(breaks=(Break(Stage.HANDSHAKE, How.STALL, times=1),)))
SECOND = Host("mx2", 20)

SCENARIOS = (
    Scenario("no-policy", "nothing", ENCRYPTED),
    Scenario("no-policy-no-starttls", "nothing; no STARTTLS", CLEAR, (NO_STARTTLS,)),
    Scenario("no-policy-self-signed", "nothing; self-signed", ENCRYPTED, (SELF_SIGNED,)),
    Scenario("no-policy-old-tls", "nothing; TLS 1.1", ENCRYPTED, (OLD_TLS,)),
    Scenario("no-policy-starttls-454", "nothing; STARTTLS says 454", CLEAR, (STARTTLS_454,)),
    Scenario("no-policy-injected", "nothing; clear text behind the 220", CLEAR, (INJECTS,)),
    Scenario("no-policy-garbage", "nothing; no TLS in the handshake", CLEAR, (GARBAGE,)),
    Scenario("no-policy-stall", "nothing; silent in the handshake", CLEAR, (STALLS_ONCE,)),
)
