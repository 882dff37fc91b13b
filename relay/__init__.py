"""Relay: a sending mail server."""

__version__ = "0.1.0"
