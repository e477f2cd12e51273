"""Tasks that have long finished: rows in the metadata database of a running Airflow, and their images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from airflow_provider_seedream.apixo.model import Size
from airflow_provider_seedream.sandbox.drawing import Drawing, draw
from airflow_provider_seedream.storage.index import SAVED_KEY, IndexEntry
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage
from airflow_provider_seedream.urls import TaskAddress
from tests.support.metadata_rows import START, MetadataRows
from tests.ui.site import Site

PRICE = 0.035


class Past:
    """Writes it.

    :param site: whose DAGs are named; it must have parsed them.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._images = site.world.images

    def add_task(
        self, task: TaskAddress, *, state: str = "success", at: datetime = START,
        xcoms: Mapping[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """A task instance, with its DAG run if that is new; an unfinished run is the scheduler's to finish.

        :param at: when it started and pushed its values.
        :param xcoms: value by key, such as ``{SUBMISSION_KEY: submission()}``.
        :param more: further parameters of :meth:`MetadataRows.task`.
        """
        with self.rows() as rows:
            run = _run(rows, task, state, at)
            rows.task(run, task.task_id, task.map_index, state=state, at=at, xcoms=xcoms, **more)

    def add_images(
        self, task: TaskAddress, images: int = 1, *, prompt: str = "a fox", size: Size = (1024, 768),
        at: datetime = START, **more: Any,
    ) -> Manifest:  # fmt: skip
        """A task that has saved images, which lie in the site's images folder with their manifest."""
        manifest = self._manifest(task, images, prompt, size, at)
        path = self._folder / f"{manifest.seedream_task_id}-manifest.json"
        path.write_text(manifest.to_json())
        entry = IndexEntry.of(manifest, destination=self._folder.as_uri(), path=path.as_uri(), reused=False)
        self.add_task(task, at=at, xcoms={SAVED_KEY: entry.to_json()}, **more)
        return manifest

    def add_rows(self, tasks: Mapping[TaskAddress, Mapping[str, Any]], at: datetime = START) -> None:
        """Many tasks at once, in one transaction; no files.

        :param tasks: what each has pushed, by key.
        """
        with self.rows() as rows:
            for task, xcoms in tasks.items():
                run = _run(rows, task, "success", at)
                rows.task(run, task.task_id, task.map_index, xcoms=xcoms, at=at)

    @contextmanager
    def rows(self) -> Iterator[MetadataRows]:
        """For rows that none of the above offers; committed at the end."""
        with metadata_session(self._site) as session:
            yield MetadataRows(session)

    @property
    def _folder(self) -> Path:
        folder = self._images / "past"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _manifest(self, task: TaskAddress, images: int, prompt: str, size: Size, at: datetime) -> Manifest:
        identity = hashlib.sha256(repr(task).encode()).hexdigest()[:12]
        saved = [self._image(f"task_{identity}", index, prompt, size) for index in range(1, images + 1)]
        return Manifest(
            seedream_task_id=f"task_{identity}",
            model="seedream-4-5",
            request={"prompt": prompt, "max_images": images, "resolution": "2K"},
            fingerprint=hashlib.sha256(prompt.encode()).hexdigest(),
            requested=images,
            delivered=images,
            cost_usd=round(PRICE * images, 3),
            created_at=at.isoformat(),
            completed_at=at.isoformat(),
            saved_at=at.isoformat(),
            images=tuple(saved),
            **asdict(task),
        )

    def _image(self, seedream_task_id: str, index: int, prompt: str, size: Size) -> SavedImage:
        data = _drawn(prompt, index, size)
        path = self._folder / f"{seedream_task_id}-{index}.png"
        path.write_bytes(data)
        return SavedImage(
            index=index,
            path=path.as_uri(),
            name=path.name,
            url=f"https://results.apixo.invalid/{path.name}",
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            format="png",
            width=size[0],
            height=size[1],
        )


@contextmanager
def metadata_session(site: Site) -> Iterator[Any]:
    """An SQLAlchemy session on the metadata database of a running Airflow; committed at the end."""
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    engine = create_engine(site.world.stack.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
    engine.dispose()


@cache
def _drawn(prompt: str, number: int, size: Size) -> bytes:
    return draw(Drawing(size=size, title=prompt, notes="never generated", number=number, badge=str(number)))


def _run(rows: MetadataRows, task: TaskAddress, state: str, at: datetime) -> Any:
    """The DAG run of a task, made if it is new."""
    return rows.find_run(task.dag_id, task.run_id) or rows.run(
        task.dag_id, task.run_id, state=state if state in ("success", "failed") else "running", at=at
    )
