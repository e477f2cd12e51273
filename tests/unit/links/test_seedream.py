"""The buttons on a task: where they lead, and from when on they are there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_seedream.links.seedream import SeedreamGalleryLink, SeedreamResultLink, make_gallery_url
from airflow_provider_seedream.operators.seedream import (
    SeedreamDownloadOperator,
    SeedreamGenerateOperator,
    SeedreamSubmitOperator,
)
from airflow_provider_seedream.storage.index import SAVED_KEY
from tests.support.airflow_runs import run_dag
from tests.support.airflow_tries import Store, TaskTries
from tests.support.apixo import Apixo
from tests.support.purchases import QUICK

GALLERY_KEY = SeedreamGalleryLink().xcom_key
FIRST_IMAGE_KEY = SeedreamResultLink().xcom_key


def task_key(**changes: Any) -> SimpleNamespace:
    known = {
        "dag_id": "art",
        "run_id": "manual__2026-01-01T00:00:00+00:00",
        "task_id": "draw",
        "map_index": -1,
    }
    return SimpleNamespace(**known | changes)


class TestGalleryLink:
    def test_leads_to_the_tab_on_airflows_own_page_of_the_task(self) -> None:
        link = SeedreamGalleryLink().get_link(None, ti_key=task_key())  # type: ignore[arg-type]
        assert link == (
            "/dags/art/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00/tasks/draw/plugin/seedream-task"
        )

    def test_leads_to_the_one_mapped_task(self) -> None:
        link = SeedreamGalleryLink().get_link(None, ti_key=task_key(run_id="r", map_index=7))  # type: ignore[arg-type]
        assert link == "/dags/art/runs/r/tasks/draw/mapped/7/plugin/seedream-task"

    def test_keeps_the_path_under_which_airflow_is_served(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://host.example/airflow/")
        link = SeedreamGalleryLink().get_link(None, ti_key=task_key(run_id="r"))  # type: ignore[arg-type]
        assert link == "/airflow/dags/art/runs/r/tasks/draw/plugin/seedream-task"
        assert make_gallery_url(task_key(run_id="r")) == f"https://host.example{link}"

    def test_is_there_as_soon_as_the_task_is_bought(self, connected: Apixo, tmp_path: Path) -> None:
        tries = TaskTries(
            lambda: SeedreamGenerateOperator(task_id="generate", prompt="a fox", destination=str(tmp_path))
        )
        tries.run_until_deferral()
        assert tries.xcom.get(GALLERY_KEY).endswith("/tasks/generate/plugin/seedream-task")

    @pytest.mark.parametrize(
        "operator", [SeedreamSubmitOperator, SeedreamGenerateOperator, SeedreamDownloadOperator]
    )
    def test_is_on_every_task_that_buys_or_saves(self, operator: type) -> None:
        assert any(isinstance(link, SeedreamGalleryLink) for link in operator.operator_extra_links)  # type: ignore[attr-defined]


class TestNoButtonIsWorthAFailure:
    @pytest.mark.parametrize("state_store", [True, False])
    def test_a_paid_task_goes_on_without_it(
        self, connected: Apixo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_store: bool
    ) -> None:
        tries = TaskTries(
            lambda: SeedreamGenerateOperator(
                task_id="generate", prompt="a fox", destination=str(tmp_path), deferrable=False, **QUICK
            ),
            state_store=state_store,
        )
        push = Store.set

        def refuse(store: Store, key: str, value: Any) -> None:
            if key in (GALLERY_KEY, SAVED_KEY):
                raise ConnectionError("the api-server is busy")
            push(store, key, value)

        monkeypatch.setattr(Store, "set", refuse)
        assert tries.run()["delivered"] == 1
        assert len(connected.tasks()) == 1

    @pytest.mark.parametrize("request_", ["a fox", ["a fox"], 7])
    def test_nor_is_an_odd_record_that_a_download_is_given(
        self, dag: DAG, connected: Apixo, tmp_path: Path, request_: Any
    ) -> None:
        with dag:
            generate = SeedreamGenerateOperator(task_id="generate", prompt="a fox", **QUICK)
        urls = run_dag(dag).xcom("generate")["urls"]
        assert generate.task_id == "generate"
        odd = {"seedream_task_id": "t1", "urls": urls, "request": request_}
        tries = TaskTries(
            lambda: SeedreamDownloadOperator(task_id="download", result=odd, destination=str(tmp_path))
        )
        assert len(tries.run()["images"]) == 1


class TestFirstImage:
    def test_is_the_vendors_url_where_the_store_has_no_web_address(self, dag: DAG, tmp_path: Path) -> None:
        with dag:
            SeedreamGenerateOperator(task_id="generate", prompt="a fox", destination=str(tmp_path), **QUICK)
        run = run_dag(dag)
        assert run.xcom("generate", FIRST_IMAGE_KEY) == run.xcom("generate")["urls"][0]


class TestSavedEntry:
    def test_a_task_that_fails_after_saving_still_shows_its_images(
        self, connected: Apixo, tmp_path: Path
    ) -> None:
        tries = TaskTries(
            lambda: SeedreamGenerateOperator(
                task_id="generate",
                prompt="a fox [[deliver:1]]",
                max_images=2,
                min_images=2,
                destination=str(tmp_path),
                deferrable=False,
                **QUICK,
            )
        )
        with pytest.raises(Exception, match="were delivered"):
            tries.run()
        entry = tries.xcom.get(SAVED_KEY)
        assert [image["index"] for image in entry["images"]] == [1]
        assert entry["prompt"] == "a fox [[deliver:1]]"
