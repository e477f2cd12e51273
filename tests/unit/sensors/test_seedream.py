"""The sensor through Airflow: every mode waits at the right pace and returns the same result."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamSubmitOperator
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor
from tests.support.airflow_runs import FinishedRun, run_dag
from tests.support.apixo import Apixo
from tests.support.purchases import buy_finished

MODES: dict[str, dict[str, Any]] = {
    "deferrable": {"deferrable": True},
    "poke": {"mode": "poke", "deferrable": False},
    "reschedule": {"mode": "reschedule", "deferrable": False},
}
each_mode = pytest.mark.parametrize("mode", MODES)


def submit_and_wait(dag: DAG, mode: str, submit: dict[str, Any], **sensor: Any) -> FinishedRun:
    with dag:
        submitted = SeedreamSubmitOperator(task_id="submit", **{"prompt": "a fox", **submit})
        SeedreamTaskSensor(
            task_id="wait",
            seedream_task_id=submitted.output,
            **{"first_poll": 0.0, "poke_interval": 0.05, **MODES[mode], **sensor},
        )
    return run_dag(dag)


class TestResult:
    @each_mode
    def test_is_the_documented_record_in_every_mode(self, dag: DAG, connected: Apixo, mode: str) -> None:
        run = submit_and_wait(dag, mode, {"max_images": 3, "resolution": "4K", "aspect_ratio": "1:1"})
        assert run.state == "success"
        result = run.xcom("wait")
        assert result["seedream_task_id"] == run.xcom("submit")
        assert (result["requested"], result["delivered"], len(result["urls"])) == (3, 3, 3)
        assert (result["resolution"], result["size"]) == ("4K", [4096, 4096])
        assert (result["cost_usd"], result["refunded_usd"]) == (0.105, 0.0)
        assert result["created_at"] < result["completed_at"] < result["expires_at"]

    def test_a_task_submitted_elsewhere_needs_only_its_id(self, dag: DAG, connected: Apixo) -> None:
        task_id = SeedreamHook().submit(GenerateRequest(prompt="a fox", max_images=2))
        with dag:
            SeedreamTaskSensor(task_id="wait", seedream_task_id=task_id, deferrable=True, poke_interval=0.05)
        result = run_dag(dag).xcom("wait")
        assert (result["requested"], result["delivered"], result["cost_usd"]) == (None, 2, 0.07)

    def test_mapped_sensors_find_their_own_submission(self, dag: DAG, connected: Apixo) -> None:
        with dag:
            submit = SeedreamSubmitOperator.partial(task_id="submit", prompt="a fox").expand(
                max_images=[1, 2]
            )
            SeedreamTaskSensor.partial(
                task_id="wait", deferrable=True, first_poll=0.0, poke_interval=0.05
            ).expand(seedream_task_id=submit.output)
        run = run_dag(dag)
        assert [run.xcom("wait", map_index=index)["requested"] for index in (0, 1)] == [1, 2]


class TestPace:
    @each_mode
    def test_the_first_poll_waits_for_its_time_after_the_creation(
        self, dag: DAG, connected: Apixo, mode: str
    ) -> None:
        submit_and_wait(dag, mode, {}, first_poll=1.0)
        (bought,) = connected.tasks()
        assert bought["polls"] == 1
        assert bought["poll_times"][0] >= bought["submitted_at"] + 0.9

    def test_what_is_already_finished_is_delivered_without_deferring(
        self, dag: DAG, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task_id = buy_finished()
        with dag:
            SeedreamTaskSensor(task_id="wait", seedream_task_id=task_id, deferrable=True)
        assert run_dag(dag).state == "success"
        assert "DEFERRED" not in capsys.readouterr().out

    def test_status_changes_are_in_the_log(
        self, dag: DAG, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connected.fault("/statusTask", status=200, body={"code": 200, "data": {"state": "processing_r2"}})
        run = submit_and_wait(dag, "deferrable", {})
        log = capsys.readouterr().out
        assert f"Task {run.xcom('submit')}: state processing_r2." in log
        assert f"Task {run.xcom('submit')}: state success." in log


class TestFailures:
    @each_mode
    def test_a_failed_generation_fails_the_sensor_with_the_reason(
        self, dag: DAG, capsys: pytest.CaptureFixture[str], mode: str
    ) -> None:
        run = submit_and_wait(dag, mode, {"prompt": "x [[fail:SensitiveContentDetected]]"})
        assert run.task_state("wait") == "failed"
        log = capsys.readouterr().out
        assert "SensitiveContentDetected" in log
        assert "refunds the pre-charge" in log
        assert "Retry: none, it could not help" in log

    @each_mode
    def test_the_timeout_is_told_with_the_task_id(
        self, dag: DAG, capsys: pytest.CaptureFixture[str], mode: str
    ) -> None:
        run = submit_and_wait(dag, mode, {"prompt": "x [[seconds:90000]]"}, timeout=0.4)
        assert run.task_state("wait") == "failed"
        log = capsys.readouterr().out
        assert f"Task {run.xcom('submit')} did not finish by its deadline" in log
        assert "buys nothing" in log

    @each_mode
    def test_soft_fail_skips(self, dag: DAG, mode: str) -> None:
        run = submit_and_wait(dag, mode, {"prompt": "x [[fail:BadRequest]]"}, soft_fail=True)
        assert run.task_state("wait") == "skipped"

    @each_mode
    def test_a_bounded_run_of_network_errors_is_survived(self, dag: DAG, connected: Apixo, mode: str) -> None:
        connected.fault("/statusTask", times=1, drop="before")
        assert submit_and_wait(dag, mode, {}).state == "success"

    @pytest.mark.parametrize(
        ("result", "says"), [("{broken", "broken JSON"), ('{"resultUrls": []}', "holds no URLs")]
    )
    def test_a_success_without_images_ends_with_a_clear_error(
        self, dag: DAG, connected: Apixo, capsys: pytest.CaptureFixture[str], result: str, says: str
    ) -> None:
        data = {"state": "success", "resultJson": result}
        body = {"code": 200, "message": "success", "data": data}
        connected.fault("/statusTask", times=9, status=200, body=body)
        assert submit_and_wait(dag, "deferrable", {}).task_state("wait") == "failed"
        assert says in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"seedream_task_id": "{{ '' }}"}, "is no taskId"),
            ({"seedream_task_id": "t", "model": "{{ 'seedream-9' }}"}, "model='seedream-9'"),
            ({"seedream_task_id": "t", "resolution": "{{ '8K' }}"}, "resolution='8K'"),
            ({"seedream_task_id": "t", "seedream_conn_id": "nobody"}, "airflow connections add nobody"),
            ({"seedream_task_id": "nobody", "poke_interval": 0.01, "timeout": 1}, "404"),
        ],
    )
    def test_bad_input_says_what_is_wrong(
        self,
        dag: DAG,
        connected: Apixo,
        capsys: pytest.CaptureFixture[str],
        arguments: dict[str, Any],
        says: str,
    ) -> None:
        with dag:
            SeedreamTaskSensor(task_id="wait", deferrable=False, **arguments)
        assert run_dag(dag).state == "failed"
        assert says in capsys.readouterr().out


class TestStaticMistakes:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"seedream_task_id": None}, "is no taskId"),
            ({"resolution": "8K"}, "resolution='8K'"),
            ({"model": "seedream-9"}, "model='seedream-9'"),
            ({"poke_interval": 0}, "poke_interval"),
            ({"first_poll": -1}, "first_poll"),
        ],
    )
    def test_are_refused_when_the_dag_is_parsed(self, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            SeedreamTaskSensor(task_id="wait", **{"seedream_task_id": "t", **arguments})


class TestDefaults:
    def test_deferrable_follows_airflows_setting(
        self, airflow_database: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert SeedreamTaskSensor(task_id="wait", seedream_task_id="t").deferrable is False
