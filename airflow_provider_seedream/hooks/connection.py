"""From the fields of an Airflow connection to the account that it describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_seedream.apixo.account import DEFAULT_BASE_URL, Account
from airflow_provider_seedream.apixo.hosts import is_loopback
from airflow_provider_seedream.errors import ConnectionConfigError
from airflow_provider_seedream.hooks.connection_form import EXTRA_FIELDS, ExtraField

_API_PATH = urlsplit(DEFAULT_BASE_URL).path
_LARGEST_AMOUNT = 3600
"""USD an image, or seconds a request; more is a slip."""


class ConnectionLike(Protocol):
    """What is read of an Airflow connection."""

    conn_id: str
    host: str | None
    schema: str | None
    port: int | None
    password: str | None
    extra: Any


def account_from(conn: ConnectionLike) -> Account:
    """The account that a connection describes.

    :raises ConnectionConfigError: names the field, its value (never the key) and the remedy.
    """
    return Account(api_key=_api_key(conn), base_url=_base_url(conn), **_filled_in(conn))


def _problem(conn: ConnectionLike, what: str, remedy: str) -> ConnectionConfigError:
    return ConnectionConfigError(f"{what}.", remedy, about=f"Connection '{conn.conn_id}'")


def _api_key(conn: ConnectionLike) -> str:
    key = (conn.password or "").strip()
    if not key:
        raise _problem(conn, "it has no API key", "Put your APIXO API key into its password field.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise _problem(
            conn, "its API key holds characters that no HTTP header can carry", "Copy the key again."
        )
    return key


def _base_url(conn: ConnectionLike) -> str:
    """The base URL: whole in ``host``, or spread over host, port and schema as in a connection URI."""
    host = (conn.host or "").strip()
    if not host:
        return DEFAULT_BASE_URL
    url = host if "://" in host else _assembled(host, conn)
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port = None, None
    if not name or parts.scheme not in ("http", "https"):
        raise _problem(conn, f"host {host!r} is no web address", f"Use {DEFAULT_BASE_URL} or leave it empty.")
    if conn.port and conn.port != port:
        raise _problem(conn, f"host {host!r} and port {conn.port} differ", "Write the port into the host.")
    if parts.username or parts.password or parts.query:
        raise _problem(conn, "host holds user info or a query", "The key belongs into the password field.")
    if parts.scheme == "http" and not is_loopback(name):
        raise _problem(conn, f"host {host!r} would send the API key unencrypted", "Use https://.")
    return (url if parts.path.strip("/") else url.rstrip("/") + _API_PATH).rstrip("/")


def _assembled(host: str, conn: ConnectionLike) -> str:
    scheme = "http" if is_loopback(urlsplit(f"//{host}").hostname) else "https"
    port = f":{conn.port}" if conn.port else ""
    path = f"/{conn.schema.strip('/')}" if conn.schema and conn.schema not in ("http", "https") else ""
    return f"{scheme}://{host}{port}{path}"


def _extra(conn: ConnectionLike) -> Mapping[str, Any]:
    if not conn.extra:
        return {}
    try:
        # Airflow 3.2 hands over a dict when the connection comes from a JSON environment variable.
        extra = json.loads(conn.extra) if isinstance(conn.extra, str) else conn.extra
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        names = ", ".join(field.name for field in EXTRA_FIELDS)
        raise _problem(conn, "its extra is not a JSON object", f"It may hold {names}.")
    return extra


def _filled_in(conn: ConnectionLike) -> dict[str, Any]:
    """The extra's fields; an empty one is as good as none."""
    extra = _extra(conn)
    values = {field: extra.get(field.name) for field in EXTRA_FIELDS}
    return {
        field.name: _value(conn, field, value) for field, value in values.items() if value not in (None, "")
    }


def _value(conn: ConnectionLike, field: ExtraField, value: object) -> Any:
    if field.choices:
        return _choice(conn, field, value)
    return _text(conn, field, value) if field.is_text else _amount(conn, field, value)


def _amount(conn: ConnectionLike, field: ExtraField, value: object) -> Any:
    """A number, of the type that the field's default has."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 < amount <= _LARGEST_AMOUNT:
        remedy = f"It must be a number above 0, at most {_LARGEST_AMOUNT}."
        raise _problem(conn, f"its {field.name} is {value!r}", remedy)
    return type(field.default)(amount)


def _choice(conn: ConnectionLike, field: ExtraField, value: object) -> str:
    if value not in field.choices:
        remedy = f"Choose one of {', '.join(field.choices)}."
        raise _problem(conn, f"its {field.name} is {value!r}", remedy)
    return str(value)


def _text(conn: ConnectionLike, field: ExtraField, value: object) -> str:
    if not isinstance(value, str):
        raise _problem(conn, f"its {field.name} is {value!r}", "It must be text.")
    return value.strip()
