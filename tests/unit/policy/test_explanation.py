"""Values without rules of their own."""

from datetime import UTC, datetime

from relay.policy.explanation import Explanation
from relay.policy.sts import NoSts


def test_hosts_have_not_been_called_unless_it_is_said() -> None:
    assert not Explanation("a.test", datetime(2026, 11, 24, tzinfo=UTC), "DNSSEC is believed", NoSts()).connected
