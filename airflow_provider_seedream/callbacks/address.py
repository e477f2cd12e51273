"""The address that APIXO is told to call: Airflow's own public one, and a token as its last part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import SplitResult, urlsplit

from airflow.providers.common.compat.sdk import conf, mask_secret

from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.hosts import is_loopback, is_public
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.rules import CALLBACK
from airflow_provider_seedream.apixo.text import without_secrets
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.errors import InvalidRequestError, Problem
from airflow_provider_seedream.settings import CALLBACK_BASE_URL, SECTION, read_callback_base_url
from airflow_provider_seedream.urls import CALLBACK_PATH, TaskAddress

_SETTING = f"[{SECTION}] {CALLBACK_BASE_URL}"
_REMEDY = (
    f"Set {_SETTING}, or callback_base_url in the connection's extra, to the public https address of "
    "Airflow's api-server; docs/callbacks.md says what to open."
)


def callback_base_url(account: Account, conn_id: str) -> str:
    """Where APIXO reaches Airflow's api-server, without a trailing slash, its path kept.

    The first that is set of: the connection's extra, ``[seedream] callback_base_url``, ``[api] base_url``.

    :param conn_id: the connection that describes the account; errors name it.
    :raises InvalidRequestError: none is set, or APIXO could not or must not call it; says where it came from.
    """
    for source, url in _candidates(account, conn_id):
        if url:
            if rule := broken_rule(url, api_is_local=account.is_local):
                raise InvalidRequestError([Problem(source, _shown(url), rule, _REMEDY)])
            return url.rstrip("/")
    rule = "is needed for request_type='callback', and [api] base_url is empty, too"
    raise InvalidRequestError([Problem(_SETTING, "(empty)", rule, _REMEDY)])


def callback_url(base: str, token: CallbackToken) -> str:
    """The whole address of one purchase's callback: it is a secret, so it belongs into no log and no error.

    :param base: of :func:`callback_base_url`.
    """
    return f"{base}{CALLBACK_PATH}/{token.to_text()}"


def calling_airflow(
    request: GenerateRequest, task: TaskAddress, account: Account, conn_id: str
) -> tuple[GenerateRequest, str]:
    """A request whose callback goes to Airflow, and the digest to record before it is sent.

    :param task: that buys.
    :param conn_id: the connection that describes the account.
    :raises InvalidRequestError: Airflow has no address that APIXO could call.
    """
    token = CallbackToken.for_purchase(task)
    # APIXO's answer may quote the address.
    mask_secret(token.nonce)
    url = callback_url(callback_base_url(account, conn_id), token)
    return replace(request, request_type=CALLBACK, callback_url=url), token.digest


def broken_rule(url: str, *, api_is_local: bool) -> str | None:
    """The rule that a base URL breaks, or ``None``.

    :param api_is_local: the API runs on this machine, as the sandbox does, and may call private addresses.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is no readable URL"
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return "holds white space"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is no web address"
    if "@" in parts.netloc or "?" in url or "#" in url:
        return "holds user info, a query or a fragment"
    return _rule_of_the_host(parts, api_is_local)


def _rule_of_the_host(parts: SplitResult, api_is_local: bool) -> str | None:
    host = parts.hostname or ""
    if is_loopback(host):
        return None if api_is_local else "is an address of this machine, which APIXO cannot reach"
    if parts.scheme == "http":
        return "is not https"
    if not api_is_local and (not is_public(host) or _is_bare(host)):
        return "is a private address, which APIXO cannot reach"
    return None


def _is_bare(host: str) -> bool:
    """A name without a dot, such as of a container, is known in its own network only."""
    return "." not in host and ":" not in host


def _candidates(account: Account, conn_id: str) -> Iterator[tuple[str, str]]:
    """Where the address may come from, and what is set there."""
    yield f"callback_base_url of connection {conn_id!r}", account.callback_base_url or ""
    yield _SETTING, read_callback_base_url()
    yield "[api] base_url", conf.get("api", "base_url", fallback="") or ""


def _shown(url: str) -> str:
    return "(hidden)" if "@" in url else without_secrets(url)
