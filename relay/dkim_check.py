"""Looks at the keys that sign mail, for `relay check`: their files, and DNS. What that means is in dkim_findings."""

from __future__ import annotations

from relay import dkim_findings
from relay.files import readable_by_others
from relay.finding import Finding
from relay.lookup.dkim import check_keys
from relay.lookup.resolver import Resolver
from relay.settings import Settings
from relay.signing.keys import KeyTable, SigningKey, UnusableKey, load_key


async def look_at_keys(settings: Settings, resolver: Resolver) -> list[Finding]:
    """All findings on keys. It waits for the disk, for small files."""
    loaded = [load_key(given) for given in settings.dkim_key]
    keys = KeyTable(one for one in loaded if isinstance(one, SigningKey))
    unusable = [one.reason for one in loaded if isinstance(one, UnusableKey)]
    checked = await check_keys(resolver, keys, settings.tlsrpt.report_domain)
    exposed = [given.key_file for given in settings.dkim_key if readable_by_others(given.key_file)]
    found = dkim_findings.keys(checked, unusable)
    return [*found, *dkim_findings.short(keys.all), *map(dkim_findings.exposed, exposed)]
