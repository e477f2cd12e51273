"""The entry by which the gallery finds what a task has saved, without asking the storage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from airflow_provider_seedream.storage.manifest import Manifest

SAVED_KEY = "seedream_saved"
"""XCom key of :meth:`IndexEntry.to_json`, pushed as soon as the manifest is in place: also a task that fails
afterwards has saved its images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedImage:
    """What a tile shows of an image; see :class:`~.manifest.SavedImage`."""

    index: int
    name: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """What one Airflow task has saved.

    :param destination: folder, as the text of an ``ObjectStoragePath``, its connection included.
    :param manifest: path of the manifest, in the same form.
    :param prompt: as sent; empty where it is not known.
    :param cost_usd: of all images; ``None`` where it is not known, 0 where they were reused.
    :param images: in the order of their index.
    """

    seedream_task_id: str
    destination: str
    manifest: str
    prompt: str
    cost_usd: float | None
    reused: bool
    images: tuple[IndexedImage, ...]

    @classmethod
    def of(cls, manifest: Manifest, *, destination: str, path: str, reused: bool) -> Self:
        """The entry of a manifest that lies in its place.

        :param path: of the manifest.
        """
        images = tuple(
            IndexedImage(**{field.name: getattr(image, field.name) for field in fields(IndexedImage)})
            for image in manifest.images
        )
        return cls(
            seedream_task_id=manifest.seedream_task_id,
            destination=destination,
            manifest=path,
            prompt=str((manifest.request or {}).get("prompt") or ""),
            cost_usd=0.0 if reused else manifest.cost_usd,
            reused=reused,
            images=images,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "images": [asdict(image) for image in self.images]}

    @classmethod
    def from_json(cls, value: Any) -> IndexEntry | None:
        """The reverse, of what may come from anybody who writes a DAG; ``None`` for anything else."""
        try:
            return _adapter().validate_python(value)
        except ValidationError:
            return None

    def image(self, index: int) -> IndexedImage | None:
        """The image with this index."""
        return next((image for image in self.images if image.index == index), None)


@cache
def _adapter() -> TypeAdapter[IndexEntry]:
    return TypeAdapter(IndexEntry)
