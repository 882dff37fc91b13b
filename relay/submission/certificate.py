"""The service's certificate: noticed when its files change, and a bad new one leaves the old one in force."""

from __future__ import annotations

from pathlib import Path

from relay.files import file_stamp
from relay.tls import server_contexts


class Certificate:
    """A certificate with its chain, and its key, in two files; and the authorities of clients' certificates."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        """Read them. Raises ValueError, naming the file and what is wrong with it."""
        self._files = certificate, key, client_ca
        self._stamps = self._look()
        self.contexts = server_contexts(*self._files)

    def refresh(self) -> str | None:
        """Read them again if one has changed. Returns what is wrong with the new ones, once for each change."""
        stamps = self._look()
        if stamps == self._stamps:
            return None
        self._stamps = stamps
        try:
            self.contexts = server_contexts(*self._files)
        except ValueError as error:
            return str(error)
        return None

    def _look(self) -> tuple[object, ...]:
        return tuple(None if file is None else file_stamp(file) for file in self._files)
