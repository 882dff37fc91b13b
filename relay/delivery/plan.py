"""What is settled before a session: hosts that are out, what to ask of the handshake, which sessions can be shared."""

from __future__ import annotations

from relay.delivery.opening import Target, TlsPlan
from relay.delivery.pool import SessionKey
from relay.delivery.route import Route
from relay.policy.mx import MxHost
from relay.policy.observed import TlsVersion
from relay.policy.override import Override, OverrideMode
from relay.policy.routing import Hop
from relay.policy.source import Source
from relay.policy.sts import StsFound
from relay.policy.tlsa import NoTlsa
from relay.policy.verdict import Evidence, Refuse, Requirement, require
from relay.tls import ClientContexts


def unlisted(named: MxHost, route: Route, override: Override | None) -> Refuse | None:
    """The refusal of a host that the MTA-STS policy does not list, before its addresses are known.

    Such a host must not become a bounce for the want of an address.
    """
    if not isinstance(route.sts, StsFound) or (override is not None and override.mode is OverrideMode.REPLACE):
        return None
    unseen = require(Evidence(route.domain, named, NoTlsa("not asked"), route.sts))
    return unseen if isinstance(unseen, Refuse) else None


def tls_plan(need: Requirement, contexts: ClientContexts) -> TlsPlan | None:
    """Where the web PKI alone is required OpenSSL verifies in the handshake; otherwise the chain is judged afterwards.

    With DANE too: what breaks the handshake off shows no chain, and the domain is to be told of both.
    None: STARTTLS is to be left alone.
    """
    if not need.starttls:
        return None
    if not need.identities or need.tlsa is not None:
        context = contexts.opportunistic if need.minimum < TlsVersion.TLS_1_2 else contexts.required
        return TlsPlan(context, need.sni, path_verified=False)
    is_sni = any(identity.names == (need.sni,) for identity in need.identities)
    context = contexts.webpki if is_sni else contexts.webpki_other_name
    return TlsPlan(context, need.sni, path_verified=True)


def session_key(target: Target, need: Requirement, source: Source, hop: Hop | None = None) -> SessionKey:
    """Sessions are shared only between messages that ask the handshake for the same thing; each is judged anew.

    A session that is logged in belongs to its route.
    """
    proofs = " ".join(",".join(identity.names) for identity in need.identities)
    starttls = "starttls" if need.starttls else "clear text"
    asked = f"{need.level.name} {need.sni} {proofs} {need.minimum.name} {starttls}"
    login = f"{hop.name} as {hop.user}" if hop is not None and hop.user is not None else ""
    own = source.address(target.address)
    return SessionKey(target.host, target.address, target.port, asked, own, source.hostname, login)
