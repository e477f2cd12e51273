"""Which hosts are this machine or a private network: the sandbox lives there, public images do not."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address literal means this machine; ``None`` does not."""
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_public(host: str | None) -> bool:
    """Whether a host may be reached from anywhere.

    Names are taken as public, since only a resolver knows better; address literals are judged.
    """
    if not host or is_loopback(host):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True
