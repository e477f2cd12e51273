"""Makes the buttons on a task: one to the gallery, one to the first image that it made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_seedream.settings import read_api_base_url
from airflow_provider_seedream.urls import TaskAddress, read_base_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey
    from airflow.sdk.types import Logger


class SeedreamGalleryLink(BaseOperatorLink):
    """Opens the gallery of this task instance, in Airflow's own page."""

    name = "Gallery"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return a path on the host that serves Airflow's pages; the same from the first try to the last."""
        return _make_tab_path(ti_key)


class SeedreamResultLink(BaseOperatorLink):
    """Opens the first image: where it is stored, if its store has a web address, or else at the vendor's
    result host, as long as that keeps it (15 days)."""

    name = "First image"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL of the first image; empty while there is none."""
        # XCom drags in Airflow's database models, which every parsing of a DAG would pay.
        from airflow.providers.common.compat.sdk import XCom

        result = XCom.get_value(ti_key=ti_key, key="return_value")
        return _find_first_image(result) if isinstance(result, dict) else ""


def offer_gallery(ti: Any, log: Logger) -> None:
    """Show the button at once; Airflow itself does so when the task defers or ends (3.1-3.3)."""
    try:
        ti.xcom_push(key=SeedreamGalleryLink().xcom_key, value=_make_tab_path(ti))
    except Exception as error:  # noqa: BLE001 - no button is worth failing a paid task for
        log.warning("The button 'Gallery' is not shown yet: %s", error)


def make_gallery_url(ti: Any) -> str:
    """Return the whole URL of a task instance's gallery, or its path where Airflow does not know its host."""
    base = urlsplit(read_api_base_url())
    return base._replace(path=_make_tab_path(ti), query="", fragment="").geturl()


def _make_tab_path(ti: Any) -> str:
    map_index = -1 if ti.map_index is None else ti.map_index
    return read_base_path() + TaskAddress(ti.dag_id, ti.run_id, ti.task_id, map_index).tab


def _find_first_image(result: dict[str, Any]) -> str:
    from airflow_provider_seedream.storage.web_address import find_web_address

    images, urls = result.get("images"), result.get("urls")
    address = find_web_address(images[0]["path"]) if images else None
    return address or (str(urls[0]) if urls else "")
