"""Finds the web address at which somebody who is logged in to a store opens an object of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import ObjectStoragePath

_CONSOLES = {
    ".amazonaws.com": "https://s3.console.aws.amazon.com",
    ".amazonaws.com.cn": "https://console.amazonaws.cn",
}
"""By the end of the endpoint's host: each partition of AWS has a console of its own."""


def find_web_address(path: str) -> str | None:
    """Return the web address of an object, without any credential or signature in it.

    :param path: an object's path, as in a result record; its store must be open already or openable.
    :returns: Google Cloud Storage: the authenticated browser download. S3: see :func:`make_s3_address`.
        ``None`` for any other store.
    """
    scheme = path.partition("://")[0]
    make = _ADDRESSES.get(scheme)
    return make(ObjectStoragePath(path)) if make else None


def make_s3_address(endpoint: str | None, bucket: str, key: str) -> str | None:
    """Return the web address of an S3 object: in the AWS console, or below an endpoint that is not Amazon's.

    :param endpoint: URL that the connection names, if it does; its user info, path and query are left out.
    :returns: ``None`` for an endpoint that is no http(s) URL.
    """
    url = urlsplit(endpoint or "https://s3.amazonaws.com")
    for domain, console in _CONSOLES.items():
        if (url.hostname or "").endswith(domain):
            return f"{console}/s3/object/{quote(bucket)}?prefix={quote(key, safe='')}"
    if url.scheme not in ("http", "https"):
        return None
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}/{quote(bucket)}/{quote(key)}"


def _make_google_address(path: ObjectStoragePath) -> str:
    return f"https://storage.cloud.google.com/{quote(path.path)}"


def _find_s3_address(path: ObjectStoragePath) -> str | None:
    bucket, _, key = path.path.partition("/")
    return make_s3_address(_read_s3_endpoint(path.fs), bucket, key)


def _read_s3_endpoint(store: object) -> str | None:
    options = getattr(store, "client_kwargs", None) or {}
    return options.get("endpoint_url") or getattr(store, "endpoint_url", None)


_ADDRESSES: Mapping[str, Callable[[ObjectStoragePath], str | None]] = {
    **dict.fromkeys(("gs", "gcs"), _make_google_address),
    **dict.fromkeys(("s3", "s3a", "s3n"), _find_s3_address),
}
