"""Values without rules of their own."""

from datetime import UTC, datetime

from relay.policy.explanation import Explanation, StsExplained
from relay.policy.sts import NoSts


def test_hosts_have_not_been_called_unless_it_is_said() -> None:
    now, sts = datetime(2026, 11, 24, tzinfo=UTC), StsExplained(NoSts())
    assert not Explanation("a.test", now, True, "because", "a.test", sts).connected
