"""Where a stored object can be opened in a browser, by somebody who is logged in to its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import ObjectStoragePath


def web_address(path: str) -> str | None:
    """The web address of an object, without any credential or signature in it.

    :param path: an object's path, as in a result record; its store must be open already or openable.
    :returns: Google Cloud Storage: the authenticated browser download. S3: the object in the AWS console, or
        below the endpoint that the connection names. http(s): itself. ``None`` for any other store.
    """
    scheme = path.partition("://")[0]
    make = _ADDRESSES.get(scheme)
    return make(ObjectStoragePath(path)) if make else None


def _google(path: ObjectStoragePath) -> str:
    return f"https://storage.cloud.google.com/{quote(path.path)}"


def _s3(path: ObjectStoragePath) -> str:
    endpoint = _s3_endpoint(path)
    if endpoint:
        return f"{endpoint.rstrip('/')}/{quote(path.path)}"
    bucket, _, key = path.path.partition("/")
    return f"https://s3.console.aws.amazon.com/s3/object/{quote(bucket)}?prefix={quote(key, safe='')}"


def _s3_endpoint(path: ObjectStoragePath) -> str | None:
    """The endpoint of an S3 store that is not Amazon's."""
    options = getattr(path.fs, "client_kwargs", None) or {}
    endpoint = options.get("endpoint_url") or getattr(path.fs, "endpoint_url", None)
    host = urlsplit(endpoint or "").hostname or ""
    return None if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else endpoint


def _web(path: ObjectStoragePath) -> str:
    return str(path)


_ADDRESSES: Mapping[str, Callable[[ObjectStoragePath], str]] = {
    **dict.fromkeys(("gs", "gcs"), _google),
    **dict.fromkeys(("s3", "s3a", "s3n"), _s3),
    **dict.fromkeys(("http", "https"), _web),
}
