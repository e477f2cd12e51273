"""Names Airflow task instances, and makes the paths of their pages and of the callback endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_seedream.settings import read_api_base_url

MOUNT = "/seedream"
"""Path of the plugin's application below the api-server's base path."""

CALLBACK_PATH = f"{MOUNT}/callback"
"""Path of the callback endpoint below the same; a token follows."""

TASK_TAB = "seedream-task"
RUN_TAB = "seedream-run"
BROWSE_TAB = "seedream"
"""The ``url_route`` of each page inside Airflow's own."""

_ID_SAFE = "~"


@dataclass(frozen=True, slots=True)
class TaskAddress:
    """One Airflow task instance.

    :param map_index: -1 where the task is not mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def in_words(self) -> str:
        """The task instance in words, for a log; ids are quoted, so that nobody can forge a line."""
        return f"dag {self.dag_id!r}, run {self.run_id!r}, task {self.task_id!r}, map index {self.map_index}"

    @property
    def path(self) -> str:
        """The gallery of this task instance, below the mount point."""
        return f"{self._task}/{self.map_index}"

    def make_image_path(self, index: int) -> str:
        """Return the page of one image, below the mount point.

        :param index: position in the task's result, from 1.
        """
        return f"{self.path}/images/{index}"

    def make_thumbnail_path(self, index: int) -> str:
        """Return the small picture of one image, below the mount point."""
        return f"{self.make_image_path(index)}/thumbnail"

    def make_file_path(self, index: int) -> str:
        """Return the image itself, below the mount point."""
        return f"{self.make_image_path(index)}/file"

    @property
    def airflow_path(self) -> str:
        """Airflow's own page of this task instance, below the base path."""
        return self._task + (f"/mapped/{self.map_index}" if self.map_index >= 0 else "")

    @property
    def tab(self) -> str:
        """The gallery's tab on Airflow's page of this task instance (3.1+), below the base path."""
        return f"{self.airflow_path}/plugin/{TASK_TAB}"

    @property
    def _task(self) -> str:
        return f"{make_run_path(self.dag_id, self.run_id)}/tasks/{_quote(self.task_id)}"


def make_run_path(dag_id: str, run_id: str) -> str:
    """Return a DAG run's path: below the mount point its gallery, below the base path Airflow's own page."""
    return f"/dags/{_quote(dag_id)}/runs/{_quote(run_id)}"


def read_base_path() -> str:
    """Return the path of ``[api] base_url``, such as ``/airflow``; empty at the root of a host."""
    return urlsplit(read_api_base_url()).path.rstrip("/")


def is_id(text: Any) -> bool:
    """True if databases take it: PostgreSQL refuses NUL, and half of a surrogate pair has no encoding."""
    return isinstance(text, str) and not any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text)


def _quote(text: str) -> str:
    return quote(text, safe=_ID_SAFE)
