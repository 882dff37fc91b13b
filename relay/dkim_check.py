"""Looks at the keys that sign mail, for `relay check`: their files, and DNS. What that means is in dkim_findings."""

from __future__ import annotations

from relay import dkim_findings
from relay.files import readable_by_others
from relay.finding import Finding
from relay.lookup.dkim import check_keys
from relay.lookup.resolver import Resolver
from relay.settings import Settings
from relay.signing.keys import load_keys


async def look_at_keys(settings: Settings, resolver: Resolver) -> list[Finding]:
    """All findings on keys. It waits for the disk, for small files."""
    keys, unusable = load_keys(settings.dkim_key)
    checked = await check_keys(resolver, keys, settings.tlsrpt.report_domain)
    exposed = [given.key_file for given in settings.dkim_key if readable_by_others(given.key_file)]
    return [
        *dkim_findings.keys(checked, [one.reason for one in unusable]),
        *dkim_findings.short(keys.all),
        *map(dkim_findings.exposed, exposed),
        *dkim_findings.any_author(settings.client, keys.all),
    ]
