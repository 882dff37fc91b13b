"""What is a date in a header. RFC 5322 section 3.3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.date import is_date

DATES = {
    b" Wed, 04 Mar 2026 05:06:07 +0000": True,
    b"4 mar 2026 05:06 -0330": True,
    b" Wed,4 Mar 2026 05:06:60 GMT (UTC)": True,
    b"\r\n Wed, 04 Mar 2026\r\n\t05:06:07 EST": True,
    b" Wed (a day), 04 Mar (x) 2026 05:06:07 +0000": True,
    b"29 Feb 2024 00:00 Z": True,
    b"": False,
    b" ": False,
    b" yesterday": False,
    b" 2026-03-04T05:06:07Z": False,
    b" Wed, 04 Mar 2026 05:06:07": False,  # no zone
    b" Wed, 04 Mar 26 05:06:07 +0000": False,  # RFC 5322 §4.3: obsolete
    b" Wed, 04 Mar 2026 24:06:07 +0000": False,
    b" Wed, 04 Mar 2026 05:60:07 +0000": False,
    b" Wed, 31 Apr 2026 05:06:07 +0000": False,
    b" 29 Feb 2026 00:00 Z": False,
    b" 00 Mar 2026 00:00 Z": False,
    b" Foo, 04 Mar 2026 05:06:07 +0000": False,
    b" Wed, 04 Mar 2026 05:06:07 +0060": False,
    b" Wed, 04 Mar 2026 05:06:07 +0000 x": False,
    b" Wed, 04 Mar 2026 05:06:07 (+0000": False,
    b" " * 200_000 + b"Wed, 04 Mar 2026 05:06:07 +0000": False,
    b" Mi, 04 M\xe4r 2026 05:06:07 +0000": False,
}


@pytest.mark.parametrize("value", DATES, ids=lambda value: repr(value[:50]))
def test_date(value: bytes) -> None:
    assert is_date(value) is DATES[value]


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30)), st.integers(-24 * 60 + 1, 24 * 60 - 1))
def test_what_python_writes_is_a_date(when: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    assert is_date(b" " + format_datetime(when.replace(tzinfo=zone)).encode())
    assert is_date(format_datetime(when.replace(tzinfo=UTC), usegmt=True).encode())
