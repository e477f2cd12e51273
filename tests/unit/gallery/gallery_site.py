"""The gallery's application, with readers who are logged in, and images that tasks have saved."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from fastapi.testclient import TestClient
from PIL import Image

from airflow_provider_seedream.storage.destination import resolve_destination
from airflow_provider_seedream.storage.index import IndexEntry
from airflow_provider_seedream.storage.inspection import inspect_image
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage
from airflow_provider_seedream.times import to_iso
from airflow_provider_seedream.urls import MOUNT, TaskAddress
from tests.support.metadata_rows import MetadataRows

TASK = TaskAddress("art", "r1", "draw")


HOSTILE = "<script>alert(1)</script>"


PAGES = (
    "/dags/art/runs/r1",
    TASK.path,
    TASK.make_image_path(1),
    TASK.make_thumbnail_path(1),
    TASK.make_file_path(1),
)


class RightsPerDag(SimpleAuthManager):
    """Airflow's simple auth manager, but each user may read some DAGs only."""

    rights: ClassVar[dict[str, set[str]]] = {}

    def is_authorized_dag(self, *, user: Any, details: Any = None, **kwargs: Any) -> bool:
        """As the DAG ids of the user say; without a DAG, whoever may read any."""
        allowed = self.rights.get(user.get_id(), set())
        return bool(allowed) if details is None or details.id is None else details.id in allowed


class Reader:
    """A browser in which somebody is logged in, or nobody."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def get(self, path: str, **options: Any) -> Any:
        """One request below the mount point."""
        return self._client.get(f"{MOUNT}{path}", **options)


class CommittingRows(MetadataRows):
    """As its base, and others see each row at once."""

    def task(self, *args: Any, **kwargs: Any) -> None:
        super().task(*args, **kwargs)
        self._session.commit()


def save(
    folder: Path, name: str = "one.png", prompt: str = "a fox", task_id: str = "task_1"
) -> dict[str, Any]:
    """Save an image and its manifest as a task does; returns the task's entry."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    Image.effect_noise((1600, 1200), 20).save(path)
    facts = inspect_image(path)
    image = SavedImage(
        index=1, path=path.as_uri(), name=name, url="https://cdn.example/one", bytes=facts.bytes,
        sha256=facts.sha256, format=facts.format, width=facts.width, height=facts.height,
    )  # fmt: skip
    manifest = Manifest(
        seedream_task_id=task_id, request={"prompt": prompt}, cost_usd=0.035, images=(image,),
        saved_at=to_iso(datetime(2026, 3, 1, tzinfo=UTC).timestamp()),
    )  # fmt: skip
    where = folder / f"{task_id}-manifest.json"
    where.write_text(manifest.to_json())
    destination = str(resolve_destination(str(folder)))
    entry = IndexEntry.of(manifest, destination=destination, path=f"{destination}/{where.name}", reused=False)
    return entry.to_json()
