"""Asking the world: DNS and MTA-STS policies. What is found comes back as frozen values; nothing is decided here."""
