"""Where the gallery's pages are: text only, for workers, DAGs and pages alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import conf

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
        """For a log; ids are quoted, so that nobody can forge a line."""
        return f"dag {self.dag_id!r}, run {self.run_id!r}, task {self.task_id!r}, map index {self.map_index}"

    @property
    def path(self) -> str:
        """Below the mount point: the gallery of this task instance."""
        return f"{self._task}/{self.map_index}"

    def image(self, index: int) -> str:
        """Below the mount point: the page of one image.

        :param index: position in the task's result, from 1.
        """
        return f"{self.path}/images/{index}"

    def thumbnail(self, index: int) -> str:
        """Below the mount point: the small picture of one image."""
        return f"{self.image(index)}/thumbnail"

    def file(self, index: int) -> str:
        """Below the mount point: the image itself."""
        return f"{self.image(index)}/file"

    @property
    def airflow_path(self) -> str:
        """Below the base path: Airflow's own page of this task instance."""
        return self._task + (f"/mapped/{self.map_index}" if self.map_index >= 0 else "")

    @property
    def tab(self) -> str:
        """Below the base path: the gallery's tab on Airflow's page of this task instance (3.1+)."""
        return f"{self.airflow_path}/plugin/{TASK_TAB}"

    @property
    def _task(self) -> str:
        return f"{run_path(self.dag_id, self.run_id)}/tasks/{_part(self.task_id)}"


def run_path(dag_id: str, run_id: str) -> str:
    """Below the mount point the gallery of a DAG run; below the base path Airflow's own page of it."""
    return f"/dags/{_part(dag_id)}/runs/{_part(run_id)}"


def base_path() -> str:
    """The path of ``[api] base_url``, such as ``/airflow``; empty at the root of a host."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


def is_id(text: Any) -> bool:
    """Whether databases take it: PostgreSQL refuses NUL, and half of a surrogate pair has no encoding."""
    return isinstance(text, str) and not any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text)


def _part(text: str) -> str:
    return quote(text, safe=_ID_SAFE)
