"""Reads and writes the sidecar record of a finished task: what was asked for, its cost, and its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath
from pydantic import TypeAdapter, ValidationError

from airflow_provider_seedream import __version__
from airflow_provider_seedream.storage.files import place, read
from airflow_provider_seedream.storage.scratch import make_scratch_folder

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

SCHEMA = 1
"""Grows when a field changes its meaning; a field that is only added leaves it as it is."""

MAX_BYTES = 4 * 2**20
"""Longest manifest that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """The facts of a finished task that are known before its images are saved; all values are JSON's own.

    :param seedream_task_id: the API's taskId; see :func:`~.naming.make_urls_id` where there is none.
    :param request: the ``input`` object as sent.
    :param requested: number of images that were ordered.
    :param delivered: number of images that came.
    :param cost_usd: of the delivered images, those of top-ups included.
    :param top_up_task_ids: taskIds that brought images which the first task did not.
    :param created_at: ISO 8601, UTC; so is ``completed_at``.
    :param dag_id: with ``run_id``, ``task_id`` and ``map_index``, the Airflow task that saves the images.
    """

    seedream_task_id: str
    model: str | None = None
    request: dict[str, Any] | None = None
    fingerprint: str | None = None
    requested: int | None = None
    delivered: int | None = None
    cost_usd: float | None = None
    top_up_task_ids: list[str] | None = None
    created_at: str | None = None
    completed_at: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """One image in the team's storage.

    :param index: position in the task's result, from 1.
    :param path: opens with ``ObjectStoragePath(path)``; the storage connection's id is part of it.
    :param name: the same, relative to the destination.
    :param url: where it came from, without the query, which may be a signature.
    :param bytes: length of the file.
    :param sha256: of the file, in hexadecimal.
    :param format: ``png``, ``jpeg`` or ``webp``.
    :param width: pixels.
    :param height: pixels.
    """

    index: int
    path: str
    name: str
    url: str
    bytes: int
    sha256: str
    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(TaskRecord):
    """A task whose images are all saved; as JSON, one flat object with these keys.

    :param images: in the order of their index.
    :param saved_at: ISO 8601, UTC.
    """

    images: tuple[SavedImage, ...]
    saved_at: str | None = None
    schema: int = SCHEMA
    provider_version: str = __version__

    @classmethod
    def of(cls, task: TaskRecord, images: tuple[SavedImage, ...], saved_at: str | None) -> Manifest:
        """Make the manifest of a task whose images have just been saved."""
        return cls(**asdict(task), images=images, saved_at=saved_at)

    def to_json(self) -> str:
        """Return indented JSON, for people too."""
        return _make_adapter().dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read a manifest of this or another version; unknown keys are ignored.

        :raises ValueError: if it is not JSON, or a key is missing or of the wrong type.
        """
        try:
            return _make_adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"not a manifest: {where or 'document'}: {first['msg']}") from None


@cache
def _make_adapter() -> TypeAdapter[Manifest]:
    # Built on first use: DAG files import this module.
    return TypeAdapter(Manifest)


def read_manifest(path: ObjectStoragePath, log: Logger) -> Manifest | None:
    """Return the manifest at a path; a broken one counts as none, and the log says so.

    :raises StorageError: if the store cannot tell whether there is one.
    """
    text = read(path, MAX_BYTES)
    if text is None:
        return None
    try:
        return Manifest.from_json(text)
    except ValueError as error:
        log.warning("The manifest %s is broken and counts as missing: %s", path, error)
        return None


def write_manifest(manifest: Manifest, path: ObjectStoragePath) -> None:
    """Place a manifest; its images must be in place already.

    :raises StorageError: if it cannot be written.
    """
    with make_scratch_folder() as folder:
        local = folder / "manifest.json"
        local.write_text(manifest.to_json(), encoding="utf-8")
        place(local, path)
