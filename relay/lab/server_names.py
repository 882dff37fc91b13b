"""Notes the name that a client asks for in its handshake (SNI), and chooses the certificate by it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from weakref import WeakKeyDictionary


class ServerNames:
    """See the module. `contexts`: by name; `asked`: what was asked for, by session."""

    def __init__(self) -> None:
        self.contexts: Mapping[str, ssl.SSLContext] = {}
        self.asked: WeakKeyDictionary[ssl.SSLObject, str] = WeakKeyDictionary()

    def __call__(self, tls: ssl.SSLObject, name: str | None, _base: ssl.SSLContext) -> None:
        """What OpenSSL calls during the handshake; `name` None: the client asks for none."""
        if name is not None:
            self.asked[tls] = name.lower()
            tls.context = self.contexts.get(name.lower(), tls.context)


def names_of(context: ssl.SSLContext) -> ServerNames:
    """The one that belongs to this context, which sinks may share."""
    if not isinstance(context.sni_callback, ServerNames):
        context.sni_callback = ServerNames()
    names: ServerNames = context.sni_callback
    return names
