"""Places that images are saved to, seen as another user of the storage sees them."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from tests.faults.storage_proxy import Proxy, run_proxy

PREFIX = "catalog"
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


class Place(Protocol):
    """A destination.

    :cvar destination: its URL, for the worker.
    :cvar env: environment variables that the worker needs to reach it.
    """

    destination: str
    env: Mapping[str, str]

    def list_versions(self) -> dict[str, Any]:
        """Return every file, by its name below the destination; the value changes when the file does."""

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, or ``None`` if it is not there."""

    def write(self, name: str, body: bytes) -> None:
        """Damage or add a file."""


def list_visible(place: Place) -> set[str]:
    """Return the names that a reader sees."""
    return {name for name in place.list_versions() if not name.rpartition("/")[2].startswith(".")}


class Folder:
    """A local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.destination = f"file://{root}"
        self.env: Mapping[str, str] = {}

    def list_versions(self) -> dict[str, Any]:
        return dict(self._find_versions())

    def _find_versions(self) -> Iterator[tuple[str, Any]]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    yield (
                        path.relative_to(self.root).as_posix(),
                        (stat.st_ino, stat.st_size, stat.st_mtime_ns),
                    )

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (self.root / name).read_bytes()
        return None

    def write(self, name: str, body: bytes) -> None:
        (self.root / name).write_bytes(body)

    def measure_longest(self) -> int:
        """Return the bytes of the longest file, hidden ones among them."""
        return max((version[1] for version in self.list_versions().values()), default=0)

    def clear(self) -> None:
        """Start afresh."""
        shutil.rmtree(self.root)


class Bucket:
    """A prefix in a bucket of an S3 server; workers reach the server through a proxy.

    :ivar proxy: can hold and cut uploads.
    """

    def __init__(self, endpoint: str, proxy: Proxy, name: str) -> None:
        import boto3

        self.proxy = proxy
        self.name = name
        self.destination = f"s3://{name}@{name}/{PREFIX}"
        connection = {
            "conn_type": "aws",
            "login": CREDENTIALS["aws_access_key_id"],
            "password": CREDENTIALS["aws_secret_access_key"],
            "extra": {
                "endpoint_url": proxy.origin,
                "region_name": CREDENTIALS["region_name"],
                # Of the retries of botocore and of s3fs, which multiply, one kind takes long enough.
                "config_kwargs": {"retries": {"total_max_attempts": 1}},
            },
        }
        self.env: Mapping[str, str] = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(connection)}
        self._s3 = boto3.client("s3", endpoint_url=endpoint, **CREDENTIALS)
        self._s3.create_bucket(Bucket=self.name)

    def list_versions(self) -> dict[str, Any]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        objects = [item for page in pages for item in page.get("Contents", [])]
        return {item["Key"].removeprefix(f"{PREFIX}/"): (item["ETag"], item["Size"]) for item in objects}

    def read(self, name: str) -> bytes | None:
        with suppress(self._s3.exceptions.NoSuchKey):
            return bytes(self._s3.get_object(Bucket=self.name, Key=f"{PREFIX}/{name}")["Body"].read())
        return None

    def write(self, name: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self.name, Key=f"{PREFIX}/{name}", Body=body)

    def hold_upload(self, name: str, after: int) -> threading.Event:
        """Hold the next upload half-way; the event is set when it is held."""
        return self.proxy.break_uploads(self._describe_put(name), after, hold=True).reached

    def cut_uploads(self, name: str, *, after: int, times: int) -> threading.Event:
        """Cut the next uploads half-way; the event is set by the first one."""
        return self.proxy.break_uploads(self._describe_put(name), after, times=times).reached

    def _describe_put(self, name: str) -> str:
        return f"PUT /{self.name}/{PREFIX}/{name}"

    def list_unfinished_uploads(self) -> list[str]:
        """Return the keys of uploads in parts that were begun and neither completed nor given up."""
        found = self._s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [upload["Key"] for upload in found]


Address = tuple[str, int]


@contextmanager
def run_s3_server() -> Iterator[Address]:
    """Run an S3 server on this machine, and yield host and port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # the reader makes hundreds of requests
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


@contextmanager
def make_bucket(address: Address) -> Iterator[Bucket]:
    """Make an empty bucket."""
    host, port = address
    with run_proxy(host, port) as proxy:
        yield Bucket(f"http://{host}:{port}", proxy, f"images{secrets.token_hex(4)}")
