"""A small run of the bench: it works, and the figures are not absurd."""

from __future__ import annotations

import asyncio

import deferred_mail
import pytest
from fill import Waiting


@pytest.mark.timeout(60)
def test_fresh_mail_goes_out_beside_mail_that_waits() -> None:
    (found,) = asyncio.run(deferred_mail.measure([Waiting(1500, domains=300, overdue=True)], fresh=100, rounds=1))
    assert found.first < 10
    assert found.peak < 300
    assert "1,500 | 300 | all of it" in deferred_mail.table([found])
