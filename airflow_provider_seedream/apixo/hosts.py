"""Reads URLs and tells hosts apart: the sandbox lives on this machine, public images do not."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_WHITE_SPACE = re.compile(r"[\s\x00-\x1f\x7f]")


def read_url(text: str) -> SplitResult | None:
    """Take a URL apart; ``None`` where it cannot be read, its port included."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None
    return url


def has_white_space(text: str) -> bool:
    """True if a URL holds white space or control characters, which ``urlsplit`` drops in part."""
    return _WHITE_SPACE.search(text) is not None


def is_web(url: SplitResult) -> bool:
    """True if a URL is http or https and names a host."""
    return url.scheme in ("http", "https") and bool(url.hostname)


def has_user_info(url: SplitResult) -> bool:
    """True if a URL may hold a user name or a password, be they empty."""
    return "@" in url.netloc


def is_loopback(host: str | None) -> bool:
    """True if a host name or address literal means this machine; ``None`` does not."""
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def leads_to_loopback(text: str) -> bool:
    """True if a URL can be read and leads to this machine."""
    url = read_url(text)
    return url is not None and is_loopback(url.hostname)


def is_public(host: str | None) -> bool:
    """True if a host may be reached from anywhere.

    Names are taken as public, since only a resolver knows better; address literals are judged.
    """
    if not host or is_loopback(host):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True
