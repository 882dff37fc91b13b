"""MTA-STS: finding and fetching a policy. RFC 8461 sections 3.1 to 3.3.

`IN_FORCE`: the policy counts, so the certificate is verified. `AS_NONE`: it does not, and TLS is opportunistic.
"""

from __future__ import annotations

from relay.lab.catalogue_sts import ENFORCE, REFUSED
from relay.lab.catalogue_tls import ENCRYPTED, EXPIRED, GOOD, VERIFIED
from relay.lab.certs import Leaf
from relay.lab.scenario import Expected, Scenario, Sts
from relay.lab.site import PageFault, SitePage
from relay.lab.zones import Fault, Faults

IN_FORCE, AS_NONE = VERIFIED, ENCRYPTED
NOT_FOUND = SitePage("", status=404)
RECORD = ("_mta-sts", "TXT")


def _record(name: str, publishes: str, expected: Expected, *txt: str) -> Scenario:
    return Scenario(f"sts-record-{name}", f"STS record: {publishes}", expected, sts=Sts(txt=txt))


def _lookup(name: str, publishes: str, expected: Expected, faults: Faults) -> Scenario:
    return Scenario(f"sts-record-{name}", f"STS record: {publishes}", expected, sts=ENFORCE, faults=faults)


def _text(name: str, publishes: str, expected: Expected, text: str) -> Scenario:
    return Scenario(f"sts-text-{name}", f"STS policy: {publishes}", expected, sts=Sts(text=text))


def _page(name: str, publishes: str, expected: Expected, page: SitePage) -> Scenario:
    return Scenario(f"sts-policy-{name}", f"STS policy host: {publishes}", expected, sts=Sts(page=page))


def _certificate(name: str, publishes: str, expected: Expected, leaf: Leaf, *names: str) -> Scenario:
    return Scenario(f"sts-policy-{name}", f"STS policy host: {publishes}", expected, sts=Sts(leaf=leaf, names=names))


_RECORDS = (
    _record("none", "none, but a policy", AS_NONE),
    _record("unrelated", "other TXT beside it", IN_FORCE, "v=spf1 -all", "v=STSv1; id={id};", "v=STSv10; id=2;"),
    _record("twice", "two of them", AS_NONE, "v=STSv1; id=1;", "v=STSv1; id=2;"),
    _record("id-long", "an id of 33", AS_NONE, f"v=STSv1; id={33 * '1'};"),
    _record("id-dash", "a dash in the id", AS_NONE, "v=STSv1; id=2026-01-01;"),
    _record("unknown-field", "an unknown field", IN_FORCE, "v=STSv1; colour=blue; id=1;"),
    _record("strings", "in two strings", IN_FORCE, 'v=STSv1; i" "d=1;'),
    Scenario(
        "sts-record-alias",
        "STS record: a CNAME leads to it",
        IN_FORCE,
        sts=Sts(txt=()),
        records=("_mta-sts CNAME _mta-sts.provider", '_mta-sts.provider TXT "v=STSv1; id=1;"'),
    ),
    _lookup("servfail", "SERVFAIL", AS_NONE, {RECORD: Fault.SERVFAIL}),
    _lookup("timeout", "no answer", AS_NONE, {RECORD: Fault.TIMEOUT}),
    _lookup("bogus", "wrong signature", REFUSED, {RECORD: Fault.BOGUS}),
)

_REST = "mx: mx.{domain}\r\nmax_age: 86400\r\n"
_TEXTS = (
    _text("lf", "lines end in LF", IN_FORCE, "version: STSv1\nmode: enforce\nmx: mx.{domain}\nmax_age: 86400\n"),
    _text("unknown-key", "an unknown key", IN_FORCE, f"version: STSv1\r\nmode: enforce\r\ncolour: blue\r\n{_REST}"),
    _text("repeated", "mode twice", IN_FORCE, f"version: STSv1\r\nmode: enforce\r\nmode: none\r\n{_REST}"),
    _text("no-mx", "no mx", AS_NONE, "version: STSv1\r\nmode: enforce\r\nmax_age: 86400\r\n"),
    _text("bad-mx", "mx: *", AS_NONE, f"version: STSv1\r\nmode: enforce\r\nmx: *\r\n{_REST}"),
    _text("large", "more than 64 KiB", AS_NONE, f"version: STSv1\r\nmode: enforce\r\n{_REST}" + 7000 * "x: filler\r\n"),
    Scenario("sts-max-age-0", "STS enforce, max_age: 0", IN_FORCE, (GOOD,), Sts(max_age=0)),
    Scenario("sts-max-age-0-bad", "STS enforce, max_age: 0; expired", REFUSED, (EXPIRED,), Sts(max_age=0)),
)

_PAGES = (
    _page("404", "404", AS_NONE, NOT_FOUND),
    _page("500", "500", AS_NONE, SitePage("", status=500)),
    _page("redirect", "redirects", AS_NONE, SitePage("", redirect_to="https://mta-sts.{domain}/elsewhere")),
    _page("html", "text/html", AS_NONE, SitePage("", content_type="text/html")),
    _page("hangs", "never answers", AS_NONE, SitePage("", fault=PageFault.STALL)),
    _certificate("bad-cert", "expired", AS_NONE, Leaf.EXPIRED),
    _certificate("not-yet-valid", "not yet valid", AS_NONE, Leaf.NOT_YET_VALID),
    _certificate("self-signed", "self-signed", AS_NONE, Leaf.SELF_SIGNED),
    _certificate("wrong-name", "certificate of another", AS_NONE, Leaf.GOOD, "www.{domain}"),
    _certificate("wildcard", "certificate for *.domain", IN_FORCE, Leaf.GOOD, "*.{domain}"),
    Scenario(
        "sts-policy-no-host",
        "STS policy host: no such name",
        AS_NONE,
        sts=ENFORCE,
        faults={("mta-sts", "ANY"): Fault.NXDOMAIN},
    ),
)

SCENARIOS = _RECORDS + _TEXTS + _PAGES
