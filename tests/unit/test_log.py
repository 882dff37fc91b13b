"""Events as log lines."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from relay.events import AttemptFinished, DnssecTrust, ServiceStopped
from relay.log import log_lines


def line(event: DnssecTrust | AttemptFinished | ServiceStopped) -> str:
    stream = io.StringIO()
    log_lines(stream)(event)
    written = stream.getvalue()
    assert written.endswith("\n")
    time, _, rest = written[:-1].partition(" ")
    assert datetime.fromisoformat(time.removeprefix("timestamp=")).tzinfo is not None
    return rest


def test_a_line_has_time_level_and_event_first_and_true_is_spelt_out() -> None:
    assert line(ServiceStopped()) == "level=info event=service-stopped"
    assert line(DnssecTrust(True, "it is so")) == 'level=info event=dnssec-trust trusted=true reason="it is so"'


def test_what_is_not_known_is_left_out_and_strangers_words_stay_on_one_line() -> None:
    event = AttemptFinished(
        id="1",
        recipient="a@b.test",
        state="deferred",
        attempts=2,
        status="4.7.5",
        cause="tls-policy",
        host=None,
        tls="none",
        reason='a "quoted"\nline',
        reply=None,
        next_attempt=datetime(2026, 1, 1, tzinfo=UTC),
    )
    text = line(event)
    assert "\n" not in text
    assert text.startswith("level=info event=attempt-finished id=1 recipient=a@b.test state=deferred attempts=2 ")
    assert text.endswith(" next_attempt=2026-01-01T00:00:00Z")
    assert "host" not in text


def test_strangers_words_move_no_cursor() -> None:
    assert line(DnssecTrust(True, "a\x1b[2J\0\r\x85\udcff ü")).endswith(r'reason="a\x1b[2J\x00\r\x85\udcff ü"')


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    stream = io.StringIO()
    emit = log_lines(stream)
    stream.close()
    emit(ServiceStopped())
    full = open("/dev/full", "w")  # noqa: PTH123, SIM115
    log_lines(full)(ServiceStopped())
    with pytest.raises(OSError):  # it was really full
        full.close()
