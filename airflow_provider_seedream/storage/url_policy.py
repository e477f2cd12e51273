"""Decides which URLs may be fetched: public HTTPS, and the sandbox's own origin."""

from __future__ import annotations

import ipaddress
import socket

import httpx

from airflow_provider_seedream.apixo.hosts import is_public
from airflow_provider_seedream.apixo.text import hide_secrets
from airflow_provider_seedream.storage.errors import RefusedUrlError


def check_url(url: str | httpx.URL, trusted_origin: str | None) -> httpx.URL:
    """Read a result URL or a redirect's target, and refuse what must not be fetched.

    A name that does not resolve here is left to the HTTP client, since a proxy may know it. The client
    resolves the name again, so a name server that answers differently a moment later gets around the address
    rule; what it could gain is an image, from a request without any credential.

    :param trusted_origin: scheme, host and port that is exempt from the rules of scheme and address; given
        only when the API itself is on this machine.
    :raises RefusedUrlError: naming the rule.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise RefusedUrlError(f"The result URL cannot be read: {error}") from None
    if rule := _find_broken_rule(parsed, trusted_origin):
        raise RefusedUrlError(f"The result URL {hide_secrets(str(parsed))} was not fetched: {rule}.")
    return parsed


def remove_query(url: str) -> str:
    """Return a URL for the record: a query may be a signature, and leads nowhere once that has expired."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


def _find_broken_rule(url: httpx.URL, trusted_origin: str | None) -> str | None:
    if url.userinfo:
        return "URLs with a user name or password are refused"
    if trusted_origin is not None and _read_origin(url) == _read_origin(httpx.URL(trusted_origin)):
        return None
    if url.scheme != "https":
        return "only https:// is fetched"
    if not url.host:
        return "it names no host"
    if url.port is not None and not 0 < url.port < 65536:
        return f"{url.port} is no port"
    return _find_broken_address_rule(url.raw_host.decode("ascii"))


def _find_broken_address_rule(host: str) -> str | None:
    try:
        addresses = _resolve(host)
    except UnicodeError:
        return "its host name is malformed"
    closed = [address for address in addresses if not _may_be_reached(address)]
    return f"{host} is {closed[0]}, which is not a public address" if closed else None


def _read_origin(url: httpx.URL) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, url.port or default


def _resolve(host: str) -> list[str]:
    """Return the addresses that this machine would connect to; literals resolve to themselves."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


def _may_be_reached(text: str) -> bool:
    address = ipaddress.ip_address(text)
    # IPv6 notations that carry an IPv4 address reach that address.
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return is_public(str(address)) and not address.is_multicast
