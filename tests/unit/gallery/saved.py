"""What a task has saved, with every part open to be spoiled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach

from airflow_provider_seedream.storage.index import IndexedImage, IndexEntry
from airflow_provider_seedream.storage.manifest import SavedImage
from tests.support.image_host import picture

TASK = "task-1"
PROMPT = "<script>alert('prompts are data')</script>"


class Saved:
    """One image, its manifest, and the entry that Airflow's database holds of both."""

    def __init__(
        self, folder: ObjectStoragePath, body: bytes | None = None, name: str = f"{TASK}-1.png"
    ) -> None:
        self.folder = folder
        self.body = picture() if body is None else body
        self.image = SavedImage(
            index=1,
            path=str(folder / name) if name else "",
            name=name,
            url="https://result.example/1.png",
            bytes=len(self.body),
            sha256=hashlib.sha256(self.body).hexdigest(),
            format="png",
            width=96,
            height=64,
        )
        self.entry = IndexEntry(
            seedream_task_id=TASK,
            destination=str(folder),
            manifest=str(folder / f"{TASK}-manifest.json"),
            prompt=PROMPT,
            cost_usd=0.035,
            reused=False,
            images=(IndexedImage(index=1, name=name, sha256=self.image.sha256, width=96, height=64),),
        )

    def manifest(self, **changes: Any) -> dict[str, Any]:
        """The manifest as JSON reads it."""
        image = asdict(self.image)
        request = {"prompt": PROMPT}
        return {"seedream_task_id": TASK, "request": request, "images": [image], "schema": 1, **changes}

    def write(self, name: str, body: bytes) -> None:
        """Put a file into the folder."""
        path = self.folder / name
        path.fs.makedirs(path.path.rpartition("/")[0], exist_ok=True)
        path.fs.pipe_file(path.path, body)

    def write_manifest(self, **changes: Any) -> None:
        self.write(f"{TASK}-manifest.json", json.dumps(self.manifest(**changes)).encode())

    def with_image(self, **changes: Any) -> Saved:
        """The same with another entry of the image."""
        self.image = replace(self.image, **changes)
        return self


def save(folder: ObjectStoragePath, body: bytes | None = None, name: str = f"{TASK}-1.png") -> Saved:
    """Save one image as a task does."""
    saved = Saved(folder, body, name)
    saved.write(name, saved.body)
    saved.write_manifest()
    return saved


def stored(scheme: str, conn_id: str, fs: Any) -> ObjectStoragePath:
    """A folder in a store of the test's own; ``AIRFLOW_CONN_...`` must hold the connection."""
    attach(scheme, conn_id, fs=fs).fs = fs
    return ObjectStoragePath(f"{scheme}://{conn_id}@bucket/images")
