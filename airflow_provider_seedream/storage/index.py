"""Holds the entry by which the gallery finds what a task has saved, without asking the storage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from airflow_provider_seedream.storage.manifest import Manifest

SAVED_KEY = "seedream_saved"
"""XCom key of :meth:`IndexEntry.to_json`, pushed as soon as the manifest is in place: also a task that fails
afterwards has saved its images."""

MOST_IMAGES = 1_000
"""Highest index of an image, and most images of a purchase, that anything of ours is taken to have."""

MOST_USD = 1e6
"""No cost of ours is higher."""

# Far above what the API and the operators make: an entry may come from anybody who writes a DAG.
_Text = Annotated[str, Field(max_length=4_096)]
_Prompt = Annotated[str, Field(max_length=20_000)]
_Index = Annotated[int, Field(ge=1, le=MOST_IMAGES)]
_Pixels = Annotated[int, Field(ge=0, le=100_000)]
_Usd = Annotated[float, Field(ge=0, le=MOST_USD, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedImage:
    """An image as a tile shows it; see :class:`~.manifest.SavedImage`."""

    index: _Index
    name: _Text
    sha256: _Text
    width: _Pixels
    height: _Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """The images that one Airflow task has saved.

    :param destination: folder, as the text of an ``ObjectStoragePath``, its connection included.
    :param manifest: path of the manifest, in the same form.
    :param prompt: as sent; empty where it is not known.
    :param cost_usd: of all images; ``None`` where it is not known, 0 where they were reused.
    :param images: in the order of their index.
    """

    seedream_task_id: _Text
    destination: _Text
    manifest: _Text
    prompt: _Prompt
    cost_usd: _Usd | None
    reused: bool
    images: Annotated[tuple[IndexedImage, ...], Field(max_length=200)]

    @classmethod
    def of(cls, manifest: Manifest, *, destination: str, path: str, reused: bool) -> Self:
        """Make the entry of a manifest that lies in its place.

        :param path: of the manifest.
        """
        images = tuple(
            IndexedImage(**{field.name: getattr(image, field.name) for field in fields(IndexedImage)})
            for image in manifest.images
        )
        # A record that was handed to a download may hold anything here.
        request: object = manifest.request
        return cls(
            seedream_task_id=manifest.seedream_task_id,
            destination=destination,
            manifest=path,
            prompt=str(request.get("prompt") or "") if isinstance(request, dict) else "",
            cost_usd=0.0 if reused else manifest.cost_usd,
            reused=reused,
            images=images,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "images": [asdict(image) for image in self.images]}

    @classmethod
    def from_json(cls, value: Any) -> IndexEntry | None:
        """Read an entry from what may come from anybody who writes a DAG.

        :returns: ``None`` for anything else, also for what is larger than anything that a task saves.
        """
        try:
            return _make_adapter().validate_python(value)
        except ValidationError:
            return None

    def find_image(self, index: int) -> IndexedImage | None:
        """Return the image with this index."""
        return next((image for image in self.images if image.index == index), None)


@cache
def _make_adapter() -> TypeAdapter[IndexEntry]:
    return TypeAdapter(IndexEntry)
