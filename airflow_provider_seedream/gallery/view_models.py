"""Holds what the gallery's pages show: values only, with no word on how they are found or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import pendulum

from airflow_provider_seedream.storage.manifest import Manifest, SavedImage
from airflow_provider_seedream.urls import TaskAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class TileImage:
    """The tile of one saved image.

    :param index: position in the task's result, from 1.
    :param of: number of images of that result.
    :param prompt: plain text from a user; empty where it is not known.
    :param width: pixels; 0 where it is not known, like ``height``.
    :param cost_usd: of this image; ``None`` where it is not known, 0 where it was reused.
    :param at: when it was saved, UTC.
    """

    task: TaskAddress
    index: int
    of: int
    prompt: str
    name: str
    width: int
    height: int
    cost_usd: float | None
    reused: bool
    at: datetime


class Progress(Enum):
    """The reason for which a task shows no image."""

    GENERATING = "generating"
    """Bought or about to be, and its Airflow task goes on: the tile fills in by itself."""

    FAILED = "failed"
    """Its Airflow task ended without images; the log says why."""

    NOT_KEPT = "not kept"
    """It ended well, but no saved images of it are known: it may have no destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """The tile of a task that has no saved images, or not yet.

    :param images: number of images that were ordered; ``None`` where it is not known.
    :param charged_usd: pre-charge; ``None`` where nothing is known to be bought.
    :param at: when it was bought or last touched, UTC.
    """

    task: TaskAddress
    progress: Progress
    prompt: str
    images: int | None
    charged_usd: float | None
    at: datetime


Tile = TileImage | Placeholder


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The choice of the reader of the page under *Browse*; ``None`` and empty text mean all.

    :param text: in the prompt, upper and lower case alike.
    :param since: first day, UTC, itself included; so is ``until``.
    """

    dag_id: str | None = None
    text: str = ""
    since: pendulum.Date | None = None
    until: pendulum.Date | None = None

    def __bool__(self) -> bool:
        return self != Filters()


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryView:
    """A page of tiles.

    :param root: path of the mount point, such as ``/airflow/seedream``; goes before every address.
    :param airflow_root: path of Airflow itself, such as ``/airflow`` or empty.
    :param scope: what the page is about: all DAGs (``None``), a DAG run, or a task instance, whose
        ``task_id`` is empty for a DAG run.
    :param filters: present on the page under *Browse* only.
    :param dag_ids: DAGs that the filter offers.
    :param older: address of the next page, without ``root``; ``None`` on the last.
    :param newest: address of the first page, without ``root``; ``None`` on the first.
    :param notice: something that the reader should know, such as a search that was cut short.
    """

    root: str
    airflow_root: str
    tiles: Sequence[Tile]
    scope: TaskAddress | None = None
    filters: Filters | None = None
    dag_ids: Sequence[str] = ()
    older: str | None = None
    newest: str | None = None
    notice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """The page of one image.

    :param task: where the image is shown, which need not be where it was bought: see ``manifest.dag_id``.
    :param manifest: as it lies in the storage; ``None`` where it cannot be read.
    :param image: the manifest's entry; ``None`` where there is none.
    :param problem: why the image or its manifest cannot be shown, for a person.
    :param previous: index of the image before it in the same result; ``None`` at the first.
    :param next: index of the image after it; ``None`` at the last.
    """

    root: str
    airflow_root: str
    task: TaskAddress
    index: int
    of: int
    manifest: Manifest | None = None
    image: SavedImage | None = None
    problem: str | None = None
    previous: int | None = None
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """A page that has nothing to show, and says why.

    :param title: a few words.
    :param text: what it means and what to do.
    """

    root: str
    title: str
    text: str
