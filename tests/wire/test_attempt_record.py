"""The evidence of an attempt: what was known, required and seen, the verdict, and what was said when it failed."""

from __future__ import annotations

import ssl
from datetime import timedelta

import pytest
from attempt_world import CA, DOWN, NOW, TEXT, World, make_claim, world

from relay.delivery.attempt import Attempt
from relay.delivery.transaction import Timeouts
from relay.lab.certs import Leaf
from relay.lab.sink import Break, How, SinkScript, Stage
from relay.mail.record import AttemptRecord
from relay.policy.override import Override, OverrideLevel, OverrideMode, Overrides
from relay.policy.sts import StsMode

pytestmark = pytest.mark.asyncio

OK = SinkScript()


async def record(there: World, *recipients: str) -> AttemptRecord:
    return (await Attempt(make_claim(*(recipients or ("b@a.test",))), there.tools).run()).record


def said(dialogue: tuple[str, ...]) -> list[str]:
    """Without the times."""
    return [line[8:] for line in dialogue]


async def test_a_delivery() -> None:
    async with world() as there:
        await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=StsMode.ENFORCE)
        found = await record(there)
        (policy,) = found.policies
        assert policy.startswith("MTA-STS: enforce, id 1, fetched 0 s ago")
        (tried,) = found.tried
        assert (tried.host, tried.address, tried.rule) == ("mx1.a.test", "127.2.0.1", "sts")
        assert tried.required == "TLS 1.2 or newer, a certificate of a trusted authority that names mx1.a.test (sts)"
        assert tried.seen.startswith("TLS 1.3, TLS_AES_256_GCM_SHA384, chain of 2, certificate for mx1.a.test")
        assert (tried.verdict, tried.dialogue) == ("may carry mail, TLS verified", ())


async def test_nothing_known_and_nothing_required() -> None:
    async with world() as there:
        await there.domain("a.test", OK)
        found = await record(there)
        assert found.policies == ()
        assert found.tried[0].required == "nothing: TLS when it works, clear text otherwise (opportunistic)"
        assert found.tried[0].seen == "no TLS: STARTTLS is not offered"


async def test_each_host_in_turn() -> None:
    """Not listed, down, refused, and one that asks to come again."""
    scripts = (OK, DOWN, OK, SinkScript(rcpt={"*": ("451 4.7.1 later",)}))
    async with world() as there:
        listed = "mx2.a.test\r\nmx: mx3.a.test\r\nmx: mx4.a.test"
        leaves = {3: Leaf.EXPIRED}
        await there.domain("a.test", *scripts, leaf=Leaf.GOOD, sts=StsMode.ENFORCE, sts_mx=listed, leaves=leaves)
        found = await record(there)
        assert [(one.host, one.address, one.rule) for one in found.tried] == [
            ("mx1.a.test", None, "sts-not-listed"),
            ("mx2.a.test", "127.2.0.2", "sts"),
            ("mx3.a.test", "127.2.0.3", "sts"),
            ("mx4.a.test", "127.2.0.4", "sts"),
        ]
        assert found.tried[0].verdict.startswith("mail is kept back, 4.4.8: the MTA-STS policy of a.test (enforce)")
        assert "connection refused" in found.tried[1].seen
        assert "certificate has expired" in found.tried[2].seen
        assert found.tried[2].verdict.startswith("mail is kept back, 4.7.5: ")
        assert said(found.tried[2].dialogue)[-2:] == [
            "< 220 2.0.0 go ahead",
            "* no TLS: the certificate was not accepted: certificate has expired",
        ]
        assert found.tried[3].verdict == "may carry mail, TLS verified"
        assert "< 451 4.7.1 later" in said(found.tried[3].dialogue)


async def test_the_message_is_not_in_the_transcript() -> None:
    async with world() as there:
        await there.domain("a.test", SinkScript(final_dot=("451 4.3.0 not now",)))
        (tried,) = (await record(there)).tried
        dialogue = said(tried.dialogue)
        assert [line for line in dialogue if line[0] == ">"] == [
            "> EHLO relay.test",
            "> MAIL FROM:<from@sender.test> SIZE=24",
            "> RCPT TO:<b@a.test>",
            "> DATA",
        ]
        assert dialogue[-2:] == [f"* (the message, {len(TEXT) + 4} octets)", "< 451 4.3.0 not now"]
        assert not any("one dot" in line for line in dialogue)


@pytest.mark.parametrize(
    ("script", "last"),
    [
        (SinkScript(starttls=("454 4.7.0 not now",)), "* no TLS: the host put off STARTTLS: 454 4.7.0 not now"),
        (SinkScript(breaks=(Break(Stage.HANDSHAKE, How.GARBAGE),)), "* no TLS: the host sent something else than TLS"),
        (SinkScript(breaks=(Break(Stage.HANDSHAKE, How.CLOSE),)), "* no TLS: the connection was closed during"),
        (SinkScript(breaks=(Break(Stage.HANDSHAKE, How.STALL),)), "* no TLS: the TLS handshake timed out"),
    ],
    ids=str,
)
async def test_how_tls_failed(script: SinkScript, last: str) -> None:
    async with world(timeouts=Timeouts(handshake_seconds=0.2)) as there:
        await there.domain("a.test", script, leaf=Leaf.GOOD, sts=StsMode.ENFORCE)
        (tried,) = (await record(there)).tried
        assert said(tried.dialogue)[-1].startswith(last)


async def test_an_alert_of_the_host_is_named() -> None:
    async with world() as there:
        weak = CA.issue(("mx1.a.test",)).server_context(ssl.TLSVersion.TLSv1_2)
        weak.set_ciphers("NULL-SHA256:@SECLEVEL=0")
        await there.domain("a.test", SinkScript(context=weak), sts=StsMode.ENFORCE)
        (tried,) = (await record(there)).tried
        assert "the host sent the alert handshake_failure" in tried.seen
        assert "4.7.6" in tried.verdict


async def test_an_override_and_dane_are_told() -> None:
    one = Override(
        ("a.test",), (), OverrideLevel.ENCRYPT, OverrideMode.RAISE, "ticket 7", "ops", NOW + timedelta(days=1)
    )
    async with world(overrides=Overrides([one])) as there:
        await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED, dane=True)
        found = await record(there)
        assert found.policies[0].startswith("override for mx1.a.test: encrypt, beside what is published, until ")
        assert found.policies[0].endswith("by ops: ticket 7")
        assert found.policies[1].startswith("DANE for mx1.a.test: TLSA records at mx1.a.test: 3 1 1 ")


async def test_a_session_that_is_used_again() -> None:
    async with world() as there:
        await there.domain("a.test", OK, leaf=Leaf.GOOD)
        first = await record(there)
        again = await record(there)
        assert first.tried == again.tried
