"""How TLS versions are numbered and named, and that nothing is taken for seen which was not."""

from __future__ import annotations

import pytest

from relay.policy.observed import ObservedSession, TlsSeen, TlsVersion

VERSIONS = {0x0300: "SSLv3", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


@pytest.mark.parametrize(("number", "name"), VERSIONS.items())
def test_versions(number: int, name: str) -> None:
    assert str(TlsVersion(number)) == name


def test_the_table_is_whole() -> None:
    assert list(TlsVersion) == list(VERSIONS)


def test_what_is_not_said_was_not_seen() -> None:
    assert not TlsSeen(TlsVersion.TLS_1_3, "TLS_AES_256_GCM_SHA384", ()).path_verified
    assert not ObservedSession("mx.a.test", "192.0.2.1", starttls_offered=True).requiretls_offered
