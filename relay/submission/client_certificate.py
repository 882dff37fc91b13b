"""The names in a client's certificate. RFC 5280 section 4.2.1.6; RFC 9525 has no rule for clients, so ours is below.

OpenSSL has verified the certificate in the handshake: chain, dates, and that it may be used by clients (an
extendedKeyUsage that names clients, or none). One that is not good breaks the handshake, it does not come here.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

_MAX_NAMES = 64
_Names = tuple[tuple[str, str], ...]


def certificate_names(link: asyncio.BaseTransport) -> tuple[str, ...]:
    """Mail addresses, then host names of subjectAltName, or the common names if it has neither; in lower case.

    Empty without TLS, or when the client has sent no certificate. A name that is not printable ASCII is left out.
    """
    tls: ssl.SSLObject | None = link.get_extra_info("ssl_object")
    try:
        certificate = tls.getpeercert() if tls is not None else None
    except (ValueError, OSError):  # a name that is no text: then nothing in it is believed
        return ()
    if not certificate:
        return ()
    alternative = cast("_Names", certificate.get("subjectAltName", ()))
    subject = cast("tuple[_Names, ...]", certificate.get("subject", ()))
    found = [value for wanted in ("email", "DNS") for kind, value in alternative if kind == wanted]
    found = found or [value for part in subject for kind, value in part if kind == "commonName"]
    names = [name.lower() for name in found if name.isascii() and name.isprintable() and name.strip()]
    return tuple(dict.fromkeys(names))[:_MAX_NAMES]
