"""All targets, by name."""

from __future__ import annotations

import certificate_targets
import dns_targets
import message_targets
import mime_targets
import session_targets
import smtp_targets
import sts_targets
from target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        sts_targets.RECORD,
        sts_targets.POLICY,
        smtp_targets.REPLY,
        smtp_targets.ADDRESS,
        smtp_targets.VERBS,
        session_targets.SESSION,
        message_targets.MESSAGE,
        mime_targets.DOWNGRADE,
        dns_targets.ANSWER,
        dns_targets.TLSA,
        certificate_targets.CERTIFICATE,
        certificate_targets.NAMES,
        certificate_targets.CHAIN,
    )
}
