"""Makes the address that APIXO is told to call: Airflow's own public one, and a token as its last part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import SplitResult

from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.hosts import (
    has_user_info,
    has_white_space,
    is_loopback,
    is_public,
    is_web,
    read_url,
)
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.rules import CALLBACK
from airflow_provider_seedream.apixo.text import hide_secrets
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.errors import InvalidRequestError, Problem
from airflow_provider_seedream.settings import (
    CALLBACK_BASE_URL,
    SECTION,
    read_api_base_url,
    read_callback_base_url,
)
from airflow_provider_seedream.urls import CALLBACK_PATH, TaskAddress

_SETTING = f"[{SECTION}] {CALLBACK_BASE_URL}"
_REMEDY = (
    f"Set {_SETTING}, or callback_base_url in the connection's extra, to the public https address of "
    "Airflow's api-server; docs/callbacks.md says what to open."
)


def find_base_url(account: Account, conn_id: str) -> str:
    """Return where APIXO reaches Airflow's api-server, without a trailing slash, its path kept.

    The first that is set of: the connection's extra, ``[seedream] callback_base_url``, ``[api] base_url``.

    :param conn_id: the connection that describes the account; errors name it.
    :raises InvalidRequestError: none is set, or APIXO could not or must not call it; says where it came from.
    """
    for source, url in _list_candidates(account, conn_id):
        if url:
            if rule := find_broken_rule(url, api_is_local=account.is_local):
                raise InvalidRequestError([Problem(source, _show_url(url), rule, _REMEDY)])
            return url.rstrip("/")
    rule = "is needed for request_type='callback', and [api] base_url is empty, too"
    raise InvalidRequestError([Problem(_SETTING, "(empty)", rule, _REMEDY)])


def make_callback_url(base: str, token: CallbackToken) -> str:
    """Return the whole address of one purchase's callback: a secret, which belongs into no log and no error.

    :param base: of :func:`find_base_url`.
    """
    return f"{base}{CALLBACK_PATH}/{token.to_text()}"


def add_callback(
    request: GenerateRequest, task: TaskAddress, account: Account, conn_id: str
) -> tuple[GenerateRequest, str]:
    """Return the request with a callback to Airflow, and the digest to record before it is sent.

    :param task: that buys.
    :param conn_id: the connection that describes the account.
    :raises InvalidRequestError: Airflow has no address that APIXO could call.
    """
    token = CallbackToken.for_purchase(task)
    # APIXO's answer may quote the address.
    mask_secret(token.nonce)
    url = make_callback_url(find_base_url(account, conn_id), token)
    return replace(request, request_type=CALLBACK, callback_url=url), token.digest


def find_broken_rule(text: str, *, api_is_local: bool) -> str | None:
    """Return the rule that a base URL breaks, or ``None``.

    :param api_is_local: the API runs on this machine, as the sandbox does, and may call private addresses.
    """
    url = read_url(text)
    if url is None:
        return "is no readable URL"
    if has_white_space(text):
        return "holds white space"
    if not is_web(url):
        return "is no web address"
    if has_user_info(url) or "?" in text or "#" in text:
        return "holds user info, a query or a fragment"
    return _find_host_rule(url, api_is_local)


def _find_host_rule(url: SplitResult, api_is_local: bool) -> str | None:
    host = url.hostname or ""
    if is_loopback(host):
        return None if api_is_local else "is an address of this machine, which APIXO cannot reach"
    if url.scheme == "http":
        return "is not https"
    if not api_is_local and (not is_public(host) or _is_bare(host)):
        return "is a private address, which APIXO cannot reach"
    return None


def _is_bare(host: str) -> bool:
    """True for a name without a dot, such as of a container: it is known in its own network only."""
    return "." not in host and ":" not in host


def _list_candidates(account: Account, conn_id: str) -> Iterator[tuple[str, str]]:
    """Yield each place that the address may come from, and what is set there."""
    yield f"callback_base_url of connection {conn_id!r}", account.callback_base_url or ""
    yield _SETTING, read_callback_base_url()
    yield "[api] base_url", read_api_base_url()


def _show_url(url: str) -> str:
    return "(hidden)" if "@" in url else hide_secrets(url)
