"""The scenarios of the lab, in the order in which they are shown. docs/lab.md explains how to add one."""

from __future__ import annotations

from relay.lab.certs import Leaf
from relay.lab.scenario import Host, Scenario, Sts, Tlsa, delivered, failed, refused
from relay.lab.sink import Break, SinkScript, Stage
from relay.lab.zones import Security
from relay.policy.sts import StsMode

_DANE_EE = Tlsa(3, 1, 1)
_OTHER_KEY = Tlsa(3, 1, 1, of_this_host=False)
_PKIX_EE = Tlsa(1, 1, 1)  # RFC 7672 section 3.1.3: usages 0 and 1 are not usable for SMTP
_NO_TLS = Host(leaf=None)

OPPORTUNISTIC = (
    Scenario("no-policy", "nothing", delivered(), "encrypted"),
    Scenario("no-policy-no-starttls", "nothing", delivered(), "none", hosts=(_NO_TLS,)),
    Scenario("no-policy-self-signed", "nothing", delivered(), "encrypted", hosts=(Host(leaf=Leaf.SELF_SIGNED),)),
    Scenario("no-policy-old-tls", "nothing", delivered(), "encrypted", hosts=(Host(tls_max_1_1=True),)),
)

STS = (
    Scenario("sts-good", "STS enforce", delivered(), "verified", sts=Sts()),
    Scenario("sts-wildcard", "STS enforce, mx: *.domain", delivered(), "verified", sts=Sts(mx=("*.{domain}",))),
    Scenario("sts-no-starttls", "STS enforce", refused("7.4"), "none", told="551 5.7.4", sts=Sts(), hosts=(_NO_TLS,)),
    Scenario(
        "sts-old-tls",
        "STS enforce",
        refused("7.6"),
        "none",
        told="551 5.7.6",
        sts=Sts(),
        hosts=(Host(tls_max_1_1=True),),
    ),
    Scenario(
        "sts-expired",
        "STS enforce",
        refused("7.5"),
        "none",
        told="551 5.7.5",
        sts=Sts(),
        hosts=(Host(leaf=Leaf.EXPIRED),),
    ),
    Scenario(
        "sts-self-signed",
        "STS enforce",
        refused("7.5"),
        "none",
        told="551 5.7.5",
        sts=Sts(),
        hosts=(Host(leaf=Leaf.SELF_SIGNED),),
    ),
    Scenario(
        "sts-wrong-name",
        "STS enforce",
        refused("7.5"),
        "none",
        told="551 5.7.5",
        sts=Sts(),
        hosts=(Host(names=("other.sts-wrong-name.test",)),),
    ),
    Scenario(
        "sts-not-listed",
        "STS enforce, other mx",
        refused("4.8"),
        "none",
        told="551 5.4.8",
        sts=Sts(mx=("mail.{domain}",)),
    ),
    Scenario(
        "sts-second-mx-good",
        "STS enforce, two MX",
        delivered(),
        "verified",
        sts=Sts(mx=("*.{domain}",)),
        hosts=(Host("mx1", 10, leaf=Leaf.EXPIRED), Host("mx2", 20)),
    ),
    Scenario(
        "sts-testing-bad-cert",
        "STS testing",
        delivered(),
        "encrypted",
        sts=Sts(StsMode.TESTING),
        hosts=(Host(leaf=Leaf.EXPIRED),),
    ),
    Scenario("sts-none", "STS none", delivered(), "none", sts=Sts(StsMode.NONE), hosts=(_NO_TLS,)),
    Scenario("sts-policy-404", "STS record, policy 404", delivered(), "encrypted", sts=Sts(status=404)),
    Scenario("sts-policy-redirect", "STS record, policy redirects", delivered(), "encrypted", sts=Sts(redirect=True)),
    Scenario(
        "sts-policy-bad-cert", "STS record, policy host expired", delivered(), "encrypted", sts=Sts(leaf=Leaf.EXPIRED)
    ),
)

DANE = (
    Scenario(
        "dane-good",
        "TLSA 3 1 1",
        delivered(),
        "verified",
        security=Security.SIGNED,
        hosts=(Host(leaf=Leaf.SELF_SIGNED, tlsa=(_DANE_EE,)),),
    ),
    Scenario(
        "dane-mismatch",
        "TLSA 3 1 1 of another key",
        refused("7.5"),
        "none",
        told="551 5.7.5",
        security=Security.SIGNED,
        hosts=(Host(tlsa=(_OTHER_KEY,)),),
    ),
    Scenario(
        "dane-no-starttls",
        "TLSA 3 1 1",
        refused("7.4"),
        "none",
        told="551 5.7.4",
        security=Security.SIGNED,
        hosts=(Host(leaf=None, tlsa=(_OTHER_KEY,)),),
    ),
    Scenario(
        "dane-mismatch-sts-good",
        "TLSA of another key; STS enforce",
        refused("7.5"),
        "none",
        told="551 5.7.5",
        security=Security.SIGNED,
        sts=Sts(),
        hosts=(Host(tlsa=(_OTHER_KEY,)),),
    ),
    Scenario(
        "dane-unusable",
        "TLSA 1 1 1 only",
        delivered(),
        "encrypted",
        security=Security.SIGNED,
        hosts=(Host(leaf=Leaf.SELF_SIGNED, tlsa=(_PKIX_EE,)),),
    ),
    Scenario(
        "dane-unsigned-zone",
        "TLSA in an unsigned zone",
        delivered(),
        "encrypted",
        hosts=(Host(tlsa=(_OTHER_KEY,)),),
    ),
    Scenario(
        "dnssec-bogus",
        "a zone with wrong signatures",
        refused("7.5"),
        "none",
        told="551 5.7.5",
        security=Security.BOGUS,
    ),
)

_REQUIRETLS = ("REQUIRETLS",)
SENDERS_WISH = (
    Scenario(
        "requiretls-dane",
        "TLSA 3 1 1; the sender says REQUIRETLS",
        delivered(),
        "verified",
        security=Security.SIGNED,
        hosts=(Host(leaf=Leaf.SELF_SIGNED, tlsa=(_DANE_EE,)),),
        mail_options=_REQUIRETLS,
    ),
    Scenario(
        "requiretls-sts-testing",
        "STS testing; the sender says REQUIRETLS",
        delivered(),
        "verified",
        sts=Sts(StsMode.TESTING),
        mail_options=_REQUIRETLS,
    ),
    Scenario(
        "requiretls-signed-mx",
        "a signed zone; the sender says REQUIRETLS",
        delivered(),
        "verified",
        security=Security.SIGNED,
        mail_options=_REQUIRETLS,
    ),
    Scenario(
        "requiretls-nothing",
        "nothing; the sender says REQUIRETLS",
        failed("5.7.10"),
        "none",
        told="550 5.7.10",
        mail_options=_REQUIRETLS,
    ),
    Scenario(
        "requiretls-not-offered",
        "STS enforce; the sender says REQUIRETLS",
        failed("5.7.30"),
        "none",
        told="550 5.7.30",
        sts=Sts(),
        hosts=(Host(script=SinkScript(tls_extensions=())),),
        mail_options=_REQUIRETLS,
    ),
    Scenario(
        "requiretls-second-mx",
        "STS enforce, two MX; the sender says REQUIRETLS",
        delivered(),
        "verified",
        sts=Sts(mx=("*.{domain}",)),
        hosts=(Host(script=SinkScript(tls_extensions=())), Host("mx2", 20)),
        mail_options=_REQUIRETLS,
    ),
    Scenario(
        "tls-waived-dane",
        "TLSA of another key; the sender waives TLS",
        delivered(),
        "encrypted",
        security=Security.SIGNED,
        hosts=(Host(tlsa=(_OTHER_KEY,)),),
        header="TLS-Required: No\r\n",
    ),
    Scenario(
        "tls-waived-sts",
        "STS enforce, no STARTTLS; the sender waives TLS",
        delivered(),
        "none",
        sts=Sts(),
        hosts=(Host(leaf=None),),
        header="TLS-Required: No\r\n",
    ),
)

ROUTES_AND_REPLIES = (
    Scenario("null-mx", "null MX", failed("5.1.10"), "none", told="556 5.1.10", hosts=(), mx_records=("0 .",)),
    Scenario(
        "no-such-domain", "nothing: no such name", failed("5.1.2"), "none", told="550 5.1.2", exists=False, hosts=()
    ),
    Scenario(
        "greylisted",
        "nothing",
        (("deferred 4.7.1", "delivered 2.0.0"),),
        "encrypted",
        hosts=(Host(script=SinkScript(rcpt={"*": ("451 4.7.1 greylisted, come again", "250 2.1.5 ok")})),),
    ),
    Scenario(
        "one-of-two-refused",
        "nothing",
        (("delivered 2.0.0",), ("failed 5.1.1",)),
        "encrypted",
        told="550 5.1.1",
        recipients=("bob", "eve"),
        hosts=(Host(script=SinkScript(rcpt={"eve@one-of-two-refused.test": ("550 5.1.1 no such user",)})),),
    ),
    Scenario(
        "lost-after-final-dot",
        "nothing",
        (("deferred 4.4.2", "delivered 2.0.0"),),
        "encrypted",
        hosts=(Host(script=SinkScript(breaks=(Break(Stage.FINAL_DOT, times=1),))),),
    ),
)

ALL = OPPORTUNISTIC + STS + DANE + SENDERS_WISH + ROUTES_AND_REPLIES
