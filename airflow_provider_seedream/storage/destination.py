"""Opens a destination, and proves before money is spent that images can be saved there."""

from __future__ import annotations

import errno

from airflow.providers.common.compat.sdk import BaseHook, ObjectStoragePath

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.files import describe_error, make_probe_name, put
from airflow_provider_seedream.storage.location import read_conn_id, read_destination_url
from airflow_provider_seedream.storage.scratch import make_scratch_folder

_PACKAGES = {
    ("s3", "s3a", "s3n"): "apache-airflow-providers-amazon[s3fs]",
    ("gs", "gcs"): "apache-airflow-providers-google",
    ("abfs", "abfss", "adl", "az"): "apache-airflow-providers-microsoft-azure",
    ("sftp", "ssh"): "apache-airflow-providers-sftp",
    ("hdfs",): "apache-airflow-providers-apache-hdfs",
    ("smb",): "apache-airflow-providers-samba",
    ("oss",): "apache-airflow-providers-alibaba",
}

_PERMANENT = (
    PermissionError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    NotImplementedError,
)
"""What a store raises when trying again cannot help; all else may be a passing fault of the network."""


def resolve_destination(
    destination: str | ObjectStoragePath, storage_conn_id: str | None = None
) -> ObjectStoragePath:
    """Read a destination, and open its store. An absolute path such as ``/data/x`` means ``file:///data/x``.

    :param destination: a folder or prefix.
    :param storage_conn_id: its storage connection, where the path names none.
    :raises DestinationError: if it is no usable location, if path and parameter name different connections,
        or if the store's file system is not installed or its connection not found.
    """
    url = read_destination_url(destination)
    path_conn_id = read_conn_id(url)
    if path_conn_id and storage_conn_id and path_conn_id != storage_conn_id:
        raise DestinationError(
            f"The destination names connection {path_conn_id!r}, but storage_conn_id is {storage_conn_id!r}.",
            "Give one of them, or the same twice.",
        )
    return _open_store(url, path_conn_id or storage_conn_id)


def check_writable(destination: ObjectStoragePath) -> None:
    """Write and delete a small object, so that a destination that cannot take images is found early.

    Folders are created where the store has folders.

    :raises DestinationError: naming destination, storage connection and the store's own reason.
    """
    try:
        _write_probe(destination)
    except DestinationError:
        raise
    except Exception as error:  # noqa: BLE001 - every store has its own kinds
        raise DestinationError(
            f"Cannot write to {destination}: {describe_error(error)}.",
            _advise_on_writing(read_conn_id(str(destination))),
            retryable=not isinstance(error, _PERMANENT) and getattr(error, "errno", None) != errno.EROFS,
        ) from None


def _open_store(url: str, conn_id: str | None) -> ObjectStoragePath:
    scheme = url.partition("://")[0]
    try:
        if conn_id:
            # Amazon's file system takes a connection that does not exist for anonymous access.
            BaseHook.get_connection(conn_id)
        path = ObjectStoragePath(url, conn_id=conn_id)
        path.fs  # noqa: B018 - opens the store, which looks up its file system and its connection
    except Exception as error:  # noqa: BLE001 - a missing library, connection or setting, each of its own kind
        remedy = _advise_on_opening(scheme, conn_id)
        raise DestinationError(
            f"The store of {scheme}:// cannot be opened: {describe_error(error)}.", remedy
        ) from None
    return path


def _advise_on_opening(scheme: str, conn_id: str | None) -> str:
    package = next((name for schemes, name in _PACKAGES.items() if scheme in schemes), None)
    connection = f"Check storage connection {conn_id!r}. " if conn_id else ""
    if scheme in ("file", "local"):
        return connection
    return f"{connection}{scheme}:// needs {package or 'an Airflow provider that brings it'}."


def _advise_on_writing(conn_id: str | None) -> str:
    connection = f"storage connection {conn_id!r}" if conn_id else "the worker"
    return f"Check that the place exists and that {connection} may write and delete there."


def _write_probe(destination: ObjectStoragePath) -> None:
    if destination.fs.isfile(destination.path):
        raise DestinationError(f"The destination {destination} is a file.", "Name a folder or prefix.")
    probe = destination / make_probe_name()
    with make_scratch_folder() as folder:
        local = folder / "probe"
        local.write_bytes(b"airflow-provider-seedream")
        put(local, probe)
    probe.fs.rm_file(probe.path)
