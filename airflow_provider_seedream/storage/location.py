"""Reads a destination's text before any store is opened, so that a DAG can be checked when it is parsed."""

from __future__ import annotations

from airflow_provider_seedream.errors import DestinationError

OBJECT_STORES = frozenset(
    {"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "oss"}
)
"""Protocols whose uploads become visible only when complete, and which have no folders to create."""

EXAMPLES = "Use s3://conn_id@bucket/prefix, file:///data/images or another object storage URL."


def read_destination_url(destination: object) -> str:
    """Return a destination as an object storage URL; an absolute path such as ``/data/x`` means ``file:///data/x``.

    :param destination: an ``ObjectStoragePath`` or its string.
    :raises DestinationError: it can name no location in any store.
    """
    text = "" if destination is None else str(destination).strip()
    if not text:
        raise DestinationError(f"The destination is {destination!r}, which names no location.", EXAMPLES)
    if text.startswith("/"):
        text = f"file://{text}"
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        raise DestinationError(f"The destination {text!r} is a relative path.", EXAMPLES)
    return f"{scheme}://{_check_location(scheme, rest)}"


def _check_location(scheme: str, rest: str) -> str:
    """Return what follows ``scheme://``, if it names a place and holds no credentials."""
    user_info, _, location = rest.rpartition("@") if "@" in rest.split("/", 1)[0] else ("", "", rest)
    if ":" in user_info:
        raise DestinationError(
            f"The {scheme}:// destination holds credentials.", "Put them into an Airflow connection instead."
        )
    if scheme in ("file", "local") and not location.startswith("/"):
        raise DestinationError(f"{scheme}://{rest} is a relative path.", f"Use {scheme}:///folder.")
    if scheme in OBJECT_STORES and not location.split("/", 1)[0]:
        raise DestinationError(f"{scheme}://{rest} names no bucket.", EXAMPLES)
    if ".." in location.split("/"):
        raise DestinationError(f"{scheme}://{rest} holds '..'.", "Write out the folder that is meant.")
    return rest


def read_conn_id(url: str) -> str | None:
    """Return the connection that a path names; ``ObjectStoragePath.conn_id`` is newer than Airflow 3.1."""
    host = url.partition("://")[2].split("/", 1)[0]
    return host.rpartition("@")[0] or None
