"""The scenarios of the lab, in the order in which they are shown. docs/lab.md explains how to add one."""

from __future__ import annotations

from relay.lab import (
    catalogue_dane,
    catalogue_fetching,
    catalogue_memory,
    catalogue_override,
    catalogue_reports,
    catalogue_routes,
    catalogue_sender,
    catalogue_sts,
    catalogue_time,
    catalogue_tls,
)

_OTHERS = (
    *catalogue_tls.SCENARIOS,
    *catalogue_sts.SCENARIOS,
    *catalogue_fetching.SCENARIOS,
    *catalogue_dane.SCENARIOS,
    *catalogue_sender.SCENARIOS,
    *catalogue_time.SCENARIOS,
    *catalogue_override.SCENARIOS,
    *catalogue_memory.SCENARIOS,
    *catalogue_routes.SCENARIOS,
)

ALL = (
    *(catalogue_reports.with_report(scenario) for scenario in _OTHERS),
    *catalogue_reports.SCENARIOS,
)
