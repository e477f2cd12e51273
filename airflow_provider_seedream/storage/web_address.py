"""Where a stored object can be opened in a browser, by somebody who is logged in to its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import ObjectStoragePath

_CONSOLES = {
    ".amazonaws.com": "https://s3.console.aws.amazon.com",
    ".amazonaws.com.cn": "https://console.amazonaws.cn",
}
"""By the end of the endpoint's host: each partition of AWS has a console of its own."""


def web_address(path: str) -> str | None:
    """The web address of an object, without any credential or signature in it.

    :param path: an object's path, as in a result record; its store must be open already or openable.
    :returns: Google Cloud Storage: the authenticated browser download. S3: see :func:`s3_address`. ``None``
        for any other store.
    """
    scheme = path.partition("://")[0]
    make = _ADDRESSES.get(scheme)
    return make(ObjectStoragePath(path)) if make else None


def s3_address(endpoint: str | None, bucket: str, key: str) -> str | None:
    """The web address of an S3 object: in the AWS console, or below an endpoint that is not Amazon's.

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


def _google(path: ObjectStoragePath) -> str:
    return f"https://storage.cloud.google.com/{quote(path.path)}"


def _s3(path: ObjectStoragePath) -> str | None:
    bucket, _, key = path.path.partition("/")
    return s3_address(_s3_endpoint(path.fs), bucket, key)


def _s3_endpoint(store: object) -> str | None:
    options = getattr(store, "client_kwargs", None) or {}
    return options.get("endpoint_url") or getattr(store, "endpoint_url", None)


_ADDRESSES: Mapping[str, Callable[[ObjectStoragePath], str | None]] = {
    **dict.fromkeys(("gs", "gcs"), _google),
    **dict.fromkeys(("s3", "s3a", "s3n"), _s3),
}
