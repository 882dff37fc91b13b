"""Values without rules of their own."""

from datetime import UTC, datetime

from relay.policy.explanation import Explanation, StsExplained
from relay.policy.sts import NoSts


def test_what_is_not_said() -> None:
    """Hosts were not called, mail goes to the port of mail, and a policy is from the cache."""
    now, sts = datetime(2026, 11, 24, tzinfo=UTC), StsExplained(NoSts())
    found = Explanation("a.test", now, True, "because", "a.test", sts)
    assert (found.connected, found.port, sts.fetched_now) == (False, 25, False)
