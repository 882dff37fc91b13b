"""The service's certificate: noticed when its files change, and a bad new one leaves the old one in force."""

from __future__ import annotations

from pathlib import Path

from relay.files import file_stamp
from relay.tls import server_context


class Certificate:
    """A certificate with its chain, and its key, in two files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read them. Raises ValueError, naming the file and what is wrong with it."""
        self._files = certificate, key
        self._stamps = self._look()
        self.context = server_context(certificate, key)

    def refresh(self) -> str | None:
        """Read them again if one has changed. Returns what is wrong with the new ones, once for each change."""
        stamps = self._look()
        if stamps == self._stamps:
            return None
        self._stamps = stamps
        try:
            self.context = server_context(*self._files)
        except ValueError as error:
            return str(error)
        return None

    def _look(self) -> tuple[object, ...]:
        return tuple(map(file_stamp, self._files))
