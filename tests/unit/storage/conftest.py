from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from tests.support.image_host import ImageHost, running_host


@pytest.fixture
def host() -> Iterator[ImageHost]:
    with running_host() as running:
        yield running


@pytest.fixture
def other_host() -> Iterator[ImageHost]:
    """Another origin: the same address, another port."""
    with running_host() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> ObjectStoragePath:
    """A folder that does not exist yet."""
    return ObjectStoragePath(f"file://{tmp_path}/images")


@pytest.fixture
def memory() -> Iterator[ObjectStoragePath]:
    """A store that is neither local nor a known object store; Airflow itself registers none such."""
    attach("memory", fs=fsspec.filesystem("memory"))
    yield ObjectStoragePath("memory://images/here")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["folder", "memory"])
def destination(request: pytest.FixtureRequest) -> ObjectStoragePath:
    path: ObjectStoragePath = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("test.storage")
