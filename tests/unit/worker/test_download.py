"""Download in a worker: from a result, a taskId or plain URLs to verified files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_seedream.apixo.exchange import Timing
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import (
    SeedreamDownloadOperator,
    SeedreamSubmitOperator,
)
from airflow_provider_seedream.storage.index import SAVED_KEY
from tests.support.airflow_runs import FinishedRun, run_dag, run_generate
from tests.support.apixo import Apixo


class TestDownload:
    @pytest.fixture
    def finished(self, connected: Apixo) -> dict[str, Any]:
        """The result of a task with two images."""
        hook = SeedreamHook()
        hook._timing = Timing(uniform=lambda low, high: 0.05)
        task_id = hook.submit(GenerateRequest(prompt="a fox", max_images=2, aspect_ratio="1:1"))
        status = hook.wait(task_id)
        return {"seedream_task_id": task_id, "urls": list(status.urls), "size": [2048, 2048]}

    def download(self, dag: DAG, destination: Path, **arguments: Any) -> FinishedRun:
        with dag:
            SeedreamDownloadOperator(task_id="download", destination=destination.as_uri(), **arguments)
        return run_dag(dag)

    def test_from_a_result(self, dag: DAG, finished: dict[str, Any], tmp_path: Path) -> None:
        run = self.download(dag, tmp_path, result=finished)
        assert len(list(tmp_path.glob("*.png"))) == 2
        assert run.xcom("download")["images"][1]["width"] == 2048

    def test_from_a_result_that_names_little(
        self, dag: DAG, finished: dict[str, Any], tmp_path: Path
    ) -> None:
        little = {name: finished[name] for name in ("seedream_task_id", "urls")}
        result = self.download(dag, tmp_path, result=little).xcom("download")
        assert (result["delivered"], len(result["images"])) == (2, 2)

    def test_of_reused_images_is_no_reuse_itself(
        self, dag: DAG, finished: dict[str, Any], tmp_path: Path
    ) -> None:
        run = self.download(dag, tmp_path, result={**finished, "reused": True, "cost_usd": 0.07})
        saved = run.xcom("download", SAVED_KEY)
        assert (saved["reused"], saved["cost_usd"]) == (False, 0.07)

    def test_from_a_task_id(self, dag: DAG, finished: dict[str, Any], tmp_path: Path) -> None:
        run = self.download(dag, tmp_path, seedream_task_id=finished["seedream_task_id"])
        assert run.xcom("download")["delivered"] == 2
        assert len(list(tmp_path.glob("*.png"))) == 2

    def test_from_plain_urls(self, dag: DAG, finished: dict[str, Any], tmp_path: Path) -> None:
        self.download(dag, tmp_path, urls=finished["urls"], filename="fox-{index}")
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "fox-1.png",
            "fox-2.png",
            "fox-manifest.json",
        ]

    def test_again_fetches_nothing(
        self, dag: DAG, finished: dict[str, Any], tmp_path: Path, connected: Apixo
    ) -> None:
        self.download(dag, tmp_path, result=finished)
        fetched = len(connected.requests("/results"))
        again = DAG(f"{dag.dag_id}_again", schedule=None)
        assert self.download(again, tmp_path, result=finished).state == "success"
        assert len(connected.requests("/results")) == fetched

    def test_the_key_never_travels_to_the_result_host(
        self, dag: DAG, finished: dict[str, Any], tmp_path: Path, connected: Apixo
    ) -> None:
        self.download(dag, tmp_path, result=finished)
        headers = [set(request["headers"]) for request in connected.requests("/results")]
        assert headers
        assert not any("authorization" in names for names in headers)

    def test_expired_urls_say_so(
        self, dag: DAG, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = run_generate(dag, prompt="x [[expire]]", destination=tmp_path.as_uri())
        assert run.state == "failed"
        assert "15 days" in capsys.readouterr().out
        assert list(tmp_path.iterdir()) == []

    def test_a_task_in_progress_has_nothing_to_download(
        self, dag: DAG, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with dag:
            submit = SeedreamSubmitOperator(task_id="submit", prompt="x [[seconds:9000]]")
            SeedreamDownloadOperator(
                task_id="download", seedream_task_id=submit.output, destination=tmp_path.as_uri()
            )
        assert run_dag(dag).task_state("download") == "failed"
        log = capsys.readouterr().out
        assert "Put a sensor before this task" in log
        assert "Charged: nothing by this Airflow task. Retry: fetches what is missing, at no cost." in log

    @pytest.mark.parametrize(
        "arguments",
        [{}, {"urls": ["https://a.example/x.png"], "seedream_task_id": "t"}, {"result": {}, "urls": ["x"]}],
    )
    def test_exactly_one_source_is_needed(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="exactly one of result, seedream_task_id and urls"):
            SeedreamDownloadOperator(task_id="download", destination="file:///x", **arguments)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"urls": "{{ '' }}"}, "list of URLs"),
            ({"urls": []}, "list of URLs"),
            ({"result": "{{ 'nothing' }}"}, "no result of the sensor"),
            ({"result": {"seedream_task_id": "t", "urls": []}}, "list of URLs"),
            ({"seedream_task_id": "{{ '' }}"}, "is no taskId"),
            ({"urls": ["file:///etc/passwd"]}, "only https:// is fetched"),
            ({"urls": ["http://10.0.0.1/x.png"]}, "only https:// is fetched"),
            ({"urls": ["https://127.0.0.1:1/x.png"]}, "not a public address"),
        ],
    )
    def test_bad_input_says_what_is_wrong(
        self,
        dag: DAG,
        connected: Apixo,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        arguments: dict[str, Any],
        says: str,
    ) -> None:
        assert self.download(dag, tmp_path, **arguments).state == "failed"
        assert says in capsys.readouterr().out
