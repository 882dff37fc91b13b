"""RFC 9989: records, the walk, the organizational domain, and whose policy holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.dmarc import (
    MAX_QUERIES,
    Dmarc,
    DmarcRecord,
    NoDmarc,
    Psd,
    Request,
    Step,
    names_of_walk,
    organizational_domain,
    parse_record,
    policy_of,
    select_record,
)


def step(domain: str, text: str = "v=DMARC1; p=reject") -> Step:
    record = parse_record(text.encode())
    assert record is not None
    return Step(domain, record)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=DMARC2; p=none",
        "v=dmarc1; p=none",
        " v=DMARC1; p=none",
        "p=none; v=DMARC1",
        "v=DMARC1 p=none",
        "v=DMARC10",
    ],
)
def test_what_is_no_record(text: str) -> None:
    assert parse_record(text.encode()) is None


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("v=DMARC1", DmarcRecord("v=DMARC1")),
        ("v = DMARC1 ; p = Reject ;", DmarcRecord("v = DMARC1 ; p = Reject ;", Request.REJECT)),
        (
            "v=DMARC1;p=quarantine;sp=none;np=reject;adkim=s;aspf=s;psd=n;t=y",
            DmarcRecord(
                "v=DMARC1;p=quarantine;sp=none;np=reject;adkim=s;aspf=s;psd=n;t=y",
                Request.QUARANTINE,
                Request.NONE,
                Request.REJECT,
                True,
                True,
                Psd.NO,
                True,
            ),
        ),
        ("v=DMARC1; p=reject; p=none", DmarcRecord("v=DMARC1; p=reject; p=none", Request.REJECT)),
        ("v=DMARC1; p=maybe; sp=; aspf=x; ;=;x", DmarcRecord("v=DMARC1; p=maybe; sp=; aspf=x; ;=;x")),
        ("v=DMARC1; rua=mailto:a@b.example", DmarcRecord("v=DMARC1; rua=mailto:a@b.example")),
    ],
)
def test_records(text: str, record: DmarcRecord) -> None:
    assert parse_record(text.encode()) == record


def test_several_records_are_none() -> None:
    assert select_record([b"v=DMARC1; p=reject", b"v=DMARC1; p=none"]) is None
    assert select_record([b"v=spf1 -all", b"v=DMARC1; p=reject"]) == step("x").record
    assert select_record([]) is None


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("com", ("com",)),
        ("example.com", ("example.com", "com")),
        ("a.mail.example.com", ("a.mail.example.com", "mail.example.com", "example.com", "com")),
        (
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            (
                "a.b.c.d.e.f.g.h.i.j.mail.example.com",
                "g.h.i.j.mail.example.com",
                "h.i.j.mail.example.com",
                "i.j.mail.example.com",
                "j.mail.example.com",
                "mail.example.com",
                "example.com",
                "com",
            ),
        ),
    ],
)
def test_the_names_of_a_walk(domain: str, names: tuple[str, ...]) -> None:
    assert names_of_walk(domain) == names
    assert len(names) <= MAX_QUERIES


@pytest.mark.parametrize(
    ("steps", "organizational"),
    [
        ((), "a.mail.example.com"),
        ((step("mail.example.com"), step("example.com")), "example.com"),
        ((step("a.mail.example.com"),), "a.mail.example.com"),
        ((step("com", "v=DMARC1; psd=y"),), "example.com"),
        ((step("example.com"), step("com", "v=DMARC1; psd=y")), "example.com"),
        ((step("mail.example.com", "v=DMARC1; psd=n"),), "mail.example.com"),
        ((step("a.mail.example.com", "v=DMARC1; psd=y"), step("example.com")), "example.com"),
        ((step("mail.example.com", "v=DMARC1; psd=y"),), "a.mail.example.com"),
    ],
)
def test_the_organizational_domain(steps: tuple[Step, ...], organizational: str) -> None:
    assert organizational_domain("a.mail.example.com", steps) == organizational


@pytest.mark.parametrize(
    ("steps", "exists", "at", "request_"),
    [
        ((step("mail.example.com", "v=DMARC1; p=none"), step("example.com")), True, "mail.example.com", Request.NONE),
        ((step("example.com"),), True, "example.com", Request.REJECT),
        ((step("example.com", "v=DMARC1; p=reject; sp=none"),), True, "example.com", Request.NONE),
        ((step("example.com", "v=DMARC1; p=reject; sp=none"),), False, "example.com", Request.NONE),
        ((step("example.com", "v=DMARC1; p=none; np=reject"),), True, "example.com", Request.NONE),
        ((step("example.com", "v=DMARC1; p=none; np=reject"),), False, "example.com", Request.REJECT),
        ((step("com", "v=DMARC1; p=none; sp=quarantine; psd=y"),), True, "com", Request.QUARANTINE),
        ((step("mail.example.com", "v=DMARC1; sp=reject"),), True, "mail.example.com", Request.NONE),
    ],
)
def test_whose_policy_holds(steps: tuple[Step, ...], exists: bool, at: str, request_: Request) -> None:
    found = policy_of("mail.example.com", steps, exists=exists)
    assert isinstance(found, Dmarc)
    assert (found.at, found.request) == (at, request_)


def test_no_policy_and_a_policy_under_test() -> None:
    assert policy_of("example.com", ()) == NoDmarc("example.com")
    for text, enforced in (("p=reject", True), ("p=quarantine", True), ("p=none", False), ("p=reject; t=y", False)):
        found = policy_of("example.com", (step("example.com", f"v=DMARC1; {text}"),))
        assert isinstance(found, Dmarc) and found.enforced is enforced


@given(st.one_of(st.binary(max_size=100), st.text("v=DMARC1; psn\t", max_size=60).map(str.encode)))
def test_any_octets(octets: bytes) -> None:
    for given_ in (octets, b"v=DMARC1;" + octets):
        assert isinstance(parse_record(given_), DmarcRecord | None)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=12).map(".".join), st.data())
def test_the_organizational_domain_is_the_domain_or_above_it(domain: str, data: st.DataObject) -> None:
    texts = st.sampled_from(["v=DMARC1", "v=DMARC1; psd=y", "v=DMARC1; psd=n"])
    names = [name for name in names_of_walk(domain) if data.draw(st.booleans())]
    found = organizational_domain(domain, [step(name, data.draw(texts)) for name in names])
    assert f".{domain}".endswith(f".{found}")
