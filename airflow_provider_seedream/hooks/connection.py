"""Reads, from the fields of an Airflow connection, the account that it describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_seedream.apixo.account import DEFAULT_BASE_URL, Account
from airflow_provider_seedream.apixo.hosts import (
    has_user_info,
    is_loopback,
    is_web,
    leads_to_loopback,
    read_url,
)
from airflow_provider_seedream.errors import ConnectionConfigError
from airflow_provider_seedream.hooks.connection_form import EXTRA_FIELDS, ExtraField

_API_PATH = urlsplit(DEFAULT_BASE_URL).path
_LARGEST_AMOUNT = 3600
"""USD an image, or seconds a request; more is a slip."""


class ConnectionLike(Protocol):
    """The fields of an Airflow connection that are read."""

    conn_id: str
    host: str | None
    schema: str | None
    port: int | None
    password: str | None
    extra: Any


def read_account(conn: ConnectionLike) -> Account:
    """Return the account that a connection describes.

    :raises ConnectionConfigError: names the field, its value (never the key) and the remedy.
    """
    return Account(api_key=_read_api_key(conn), base_url=_read_base_url(conn), **_read_filled_in(conn))


def _make_error(conn: ConnectionLike, what: str, remedy: str) -> ConnectionConfigError:
    return ConnectionConfigError(f"{what}.", remedy, about=f"Connection '{conn.conn_id}'")


def _read_api_key(conn: ConnectionLike) -> str:
    key = (conn.password or "").strip()
    if not key:
        raise _make_error(conn, "it has no API key", "Put your APIXO API key into its password field.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise _make_error(
            conn, "its API key holds characters that no HTTP header can carry", "Copy the key again."
        )
    return key


def _read_base_url(conn: ConnectionLike) -> str:
    """Return the base URL: whole in ``host``, or spread over host, port and schema as in a connection URI."""
    host = (conn.host or "").strip()
    if not host:
        return DEFAULT_BASE_URL
    text = host if "://" in host else _assemble(host, conn)
    url = read_url(text)
    if url is None or not is_web(url):
        raise _make_error(
            conn, f"host {host!r} is no web address", f"Use {DEFAULT_BASE_URL} or leave it empty."
        )
    if conn.port and conn.port != url.port:
        raise _make_error(conn, f"host {host!r} and port {conn.port} differ", "Write the port into the host.")
    if has_user_info(url) or url.query:
        raise _make_error(conn, "host holds user info or a query", "The key belongs into the password field.")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise _make_error(conn, f"host {host!r} would send the API key unencrypted", "Use https://.")
    return (text if url.path.strip("/") else text.rstrip("/") + _API_PATH).rstrip("/")


def _assemble(host: str, conn: ConnectionLike) -> str:
    scheme = "http" if leads_to_loopback(f"//{host}") else "https"
    port = f":{conn.port}" if conn.port else ""
    path = f"/{conn.schema.strip('/')}" if conn.schema and conn.schema not in ("http", "https") else ""
    return f"{scheme}://{host}{port}{path}"


def _read_extra(conn: ConnectionLike) -> Mapping[str, Any]:
    if not conn.extra:
        return {}
    try:
        # Airflow 3.2 hands over a dict when the connection comes from a JSON environment variable.
        extra = json.loads(conn.extra) if isinstance(conn.extra, str) else conn.extra
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        names = ", ".join(field.name for field in EXTRA_FIELDS)
        raise _make_error(conn, "its extra is not a JSON object", f"It may hold {names}.")
    return extra


def _read_filled_in(conn: ConnectionLike) -> dict[str, Any]:
    """Return the extra's fields; an empty one is as good as none."""
    extra = _read_extra(conn)
    values = {field: extra.get(field.name) for field in EXTRA_FIELDS}
    return {
        field.name: _read_value(conn, field, value)
        for field, value in values.items()
        if value not in (None, "")
    }


def _read_value(conn: ConnectionLike, field: ExtraField, value: object) -> Any:
    if field.choices:
        return _read_choice(conn, field, value)
    return _read_text(conn, field, value) if field.is_text else _read_amount(conn, field, value)


def _read_amount(conn: ConnectionLike, field: ExtraField, value: object) -> Any:
    """Read a number, of the type that the field's default has."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 < amount <= _LARGEST_AMOUNT:
        remedy = f"It must be a number above 0, at most {_LARGEST_AMOUNT}."
        raise _make_error(conn, f"its {field.name} is {value!r}", remedy)
    return type(field.default)(amount)


def _read_choice(conn: ConnectionLike, field: ExtraField, value: object) -> str:
    if value not in field.choices:
        remedy = f"Choose one of {', '.join(field.choices)}."
        raise _make_error(conn, f"its {field.name} is {value!r}", remedy)
    return str(value)


def _read_text(conn: ConnectionLike, field: ExtraField, value: object) -> str:
    if not isinstance(value, str):
        raise _make_error(conn, f"its {field.name} is {value!r}", "It must be text.")
    return value.strip()
