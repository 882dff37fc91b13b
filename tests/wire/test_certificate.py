"""A certificate that is replaced while the service runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from relay.lab.certs import LabCa
from relay.submission.certificate import Certificate

CA = LabCa.make(datetime.now(UTC))


def write(folder: Path, name: str) -> tuple[Path, Path]:
    issued = CA.issue((name,))
    certificate, key = folder / "certificate", folder / "key"
    certificate.write_bytes(issued.chain_pem)
    key.write_bytes(issued.key_pem)
    return certificate, key


def test_a_changed_certificate_is_taken_and_a_bad_one_is_not(tmp_path: Path) -> None:
    files = write(tmp_path, "a.test")
    certificate = Certificate(*files)
    first = certificate.contexts
    assert certificate.refresh() is None
    assert certificate.contexts is first
    write(tmp_path, "b.test")
    assert certificate.refresh() is None
    second = certificate.contexts
    assert second is not first
    files[1].write_text("no key")
    assert certificate.refresh() == f"{files[1]}: no private key in PEM form in it"
    assert certificate.refresh() is None  # said once
    files[0].unlink()
    assert certificate.refresh() == f"{files[0]}: cannot be read: No such file or directory"
    assert certificate.contexts is second
    write(tmp_path, "c.test")
    assert certificate.refresh() is None
    assert certificate.contexts is not second
