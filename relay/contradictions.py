"""What one setting alone cannot show: settings that do not go together, and files they name that cannot be read.

Only `config` asks. Values come in checked one by one; what is found goes out as pairs: the settings concerned (the one
to blame first), and what is wrong. Nothing is raised.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from ipaddress import ip_address

from relay.mail.outcome import Cause
from relay.policy.memory import OnTlsLoss
from relay.settings import HostPort, Settings, format_duration

Name = tuple[str, str]  # section and key; the section of `hostname` is the empty text
Finding = tuple[tuple[Name, ...], str]


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Settings that do not go together."""
    given = settings.submission
    listen, listen_tls = ("submission", "listen"), ("submission", "listen_tls")
    certificate, key = ("submission", "tls_certificate"), ("submission", "tls_key")
    if given.tls_certificate and not given.tls_key:
        yield (certificate, key), "needs submission.tls_key beside it"
    if given.tls_key and not given.tls_certificate:
        yield (key, certificate), "needs submission.tls_certificate beside it"
    if given.listen_tls and not given.tls_certificate:
        yield (listen_tls, certificate), "needs submission.tls_certificate and submission.tls_key"
    if given.users_file and not given.tls_certificate:
        users = ("submission", "users_file")
        yield (users, certificate), "needs submission.tls_certificate: passwords are taken over TLS only"
    if not given.listen and not given.listen_tls:
        yield (listen, listen_tls), "is empty, and so is submission.listen_tls: no mail would be taken"
    seen: set[str] = set()
    admin = ("admin", "listen")
    for name, addresses in ((listen, given.listen), (listen_tls, given.listen_tls), (admin, settings.admin.listen)):
        for address in addresses:
            if str(address) in seen and address.port:
                yield (name, listen, listen_tls, admin), f"{address} is there twice"
            seen.add(str(address))
    yield from _overrides_twice(settings)
    hop = settings.delivery.next_hop
    if hop and any(_same_place(hop, address, settings.hostname) for address in (*given.listen, *given.listen_tls)):
        blamed = ("delivery", "next_hop")
        yield (blamed, listen, listen_tls, ("", "hostname")), f"{hop} is this relay itself: mail would go in a circle"
    yield from _kept_back_too_long(settings)


def _kept_back_too_long(settings: Settings) -> Iterator[Finding]:
    """RFC 3207 section 6: mail that waits for lost TLS must go out in the end, and not come back."""
    memory, limit = settings.tls_memory, settings.retry.schedules.of(Cause.TLS_POLICY)
    if memory.on_loss is OnTlsLoss.DEFER and memory.defer_for >= limit.expire:
        names = (
            ("tls_memory", "defer_for"),
            ("tls_memory", "on_loss"),
            ("retry", "tls_policy_expire"),
            ("retry", "expire"),
        )
        yield (
            names,
            f"must be shorter than {limit.expire_named} ({format_duration(limit.expire)}): "
            "mail would come back, not just wait",
        )


def _overrides_twice(settings: Settings) -> Iterator[Finding]:
    """Two overrides for one destination: only one of them could hold."""
    seen: set[tuple[str, str]] = set()
    for override in settings.override:
        for key in [*(("domain", one) for one in override.domains), *(("host", one) for one in override.hosts)]:
            if key in seen:
                yield (("", "override"),), f"the {' '.join(key)} is there twice: only one could hold"
            seen.add(key)


def _same_place(hop: HostPort, listener: HostPort, hostname: str) -> bool:
    """Whether a connection to `hop` reaches our own listener, as far as the settings tell."""
    if hop.port != listener.port:
        return False
    if hop.host in (listener.host, hostname):
        return True
    address = ip_address(listener.host)
    try:
        to_loopback = ip_address(hop.host).is_loopback
    except ValueError:
        to_loopback = hop.host == "localhost"
        return to_loopback and (address.is_unspecified or address.is_loopback)
    return to_loopback and address.is_unspecified


def unusable_files(settings: Settings) -> Iterator[Finding]:
    """Files that the settings name and that cannot be read, and a folder that is none."""
    folder = settings.queue.path
    try:
        if folder is not None and not stat.S_ISDIR(folder.stat().st_mode):
            yield (("queue", "path"),), f"{folder} is not a folder"
    except FileNotFoundError:
        pass  # it will be made
    except OSError as error:
        yield (("queue", "path"),), f"{folder} cannot be used: {error.strerror}"
    submission = settings.submission
    files = {
        ("submission", "tls_certificate"): submission.tls_certificate,
        ("submission", "tls_key"): submission.tls_key,
        ("submission", "users_file"): submission.users_file,
        ("tls", "ca_file"): settings.tls.ca_file,
        ("admin", "tokens_file"): settings.admin.tokens_file,
    }
    for name, path in files.items():
        try:
            if path is not None and not stat.S_ISREG(path.stat().st_mode):
                yield (name,), f"{path} is not a file"
            elif path is not None:
                path.open("rb").close()
        except OSError as error:
            yield (name,), f"{path} cannot be read: {error.strerror}"
