"""The operators through Airflow: what they buy, return, save and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, Asset, BaseOperator, task
from PIL import Image

from airflow_provider_seedream import airflow_compat
from airflow_provider_seedream.errors import (
    InvalidRequestError,
)
from airflow_provider_seedream.operators.seedream import (
    SeedreamGenerateOperator,
    SeedreamSubmitOperator,
)
from tests.support.airflow_runs import run_dag, run_generate
from tests.support.apixo import Apixo, Connect
from tests.support.callbacks import make_with_callback
from tests.support.purchases import QUICK


class TestGenerate:
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_buys_once_and_keeps_the_images(
        self, dag: DAG, connected: Apixo, tmp_path: Path, deferrable: bool
    ) -> None:
        run = run_generate(
            dag, max_images=2, aspect_ratio="21:9", destination=tmp_path.as_uri(), deferrable=deferrable
        )
        assert run.state == "success"
        result = run.xcom("generate")
        (bought,) = connected.tasks()
        assert result["seedream_task_id"] == bought["taskId"]
        assert (result["state"], result["requested"], result["delivered"]) == ("success", 2, 2)
        assert (result["cost_usd"], result["refunded_usd"], bought["charged"]) == (0.07, 0.0, 0.07)
        assert [Image.open(tmp_path / image["name"]).size for image in result["images"]] == [(3136, 1344)] * 2
        manifest = json.loads(Path(result["manifest"].removeprefix("file://")).read_text())
        assert manifest["request"]["prompt"] == "a fox"
        assert manifest["cost_usd"] == 0.07
        assert (manifest["dag_id"], manifest["task_id"]) == (dag.dag_id, "generate")

    def test_the_submission_is_recorded_even_when_the_generation_fails(
        self, dag: DAG, connected: Apixo
    ) -> None:
        run = run_generate(dag, prompt="x [[fail:Timeout]]")
        assert run.state == "failed"
        assert run.xcom("generate", "submission")["seedream_task_id"] == connected.tasks()[0]["taskId"]

    def test_without_a_destination_returns_urls_only(self, dag: DAG, connected: Apixo) -> None:
        result = run_generate(dag).xcom("generate")
        assert len(result["urls"]) == 1
        assert "images" not in result
        assert connected.requests("/results") == []

    def test_partial_delivery_is_a_success_that_says_what_it_cost(self, dag: DAG, tmp_path: Path) -> None:
        run = run_generate(dag, prompt="x [[deliver:2]]", max_images=3, destination=tmp_path.as_uri())
        result = run.xcom("generate")
        assert (result["requested"], result["delivered"], len(result["images"])) == (3, 2, 2)
        assert (result["cost_usd"], result["refunded_usd"]) == (0.07, 0.035)

    def test_a_result_is_json_safe_and_holds_no_key(self, dag: DAG, connected: Apixo, tmp_path: Path) -> None:
        text = json.dumps(run_generate(dag, destination=tmp_path.as_uri()).xcom("generate"))
        assert connected.key not in text

    def test_the_true_format_names_the_file(self, dag: DAG, tmp_path: Path) -> None:
        result = run_generate(dag, prompt="x [[jpeg]]", destination=tmp_path.as_uri()).xcom("generate")
        assert result["images"][0]["name"].endswith(".jpg")

    def test_image_to_image_from_another_tasks_result(self, dag: DAG, connected: Apixo) -> None:
        with dag:
            first = SeedreamGenerateOperator(task_id="first", prompt="a fox", **QUICK)
            second = SeedreamGenerateOperator(
                task_id="second",
                prompt="at sunrise",
                image_urls="{{ ti.xcom_pull(task_ids='first')['urls'] }}",
                **QUICK,
            )
            first >> second
        run = run_dag(dag)
        assert run.xcom("second")["request"]["mode"] == "image-to-image"
        assert run.xcom("second")["request"]["image_urls"] == run.xcom("first")["urls"]

    def test_the_asset_event_tells_what_was_saved(self, dag: DAG, tmp_path: Path) -> None:
        with dag:
            SeedreamGenerateOperator(
                task_id="generate",
                prompt="a fox",
                destination=tmp_path.as_uri(),
                outlets=[Asset(f"art-{dag.dag_id}")],
                **QUICK,
            )
        run_dag(dag)
        assert asset_event_extra(dag.dag_id)["cost_usd"] == 0.035

    def test_the_price_and_routing_of_the_connection_are_used(
        self, dag: DAG, connected: Apixo, connect: Connect
    ) -> None:
        connect(host=connected.base_url, extra={"price_per_image": "0.04", "provider": "official"})
        assert run_generate(dag).xcom("generate")["cost_usd"] == 0.04

    def test_default_args_reach_every_parameter(self, airflow_database: None, connected: Apixo) -> None:
        with DAG("defaults", schedule=None, default_args={"resolution": "4K", "poll_interval": 7.0}):
            operator = SeedreamGenerateOperator(task_id="generate", prompt="a fox")
        assert (operator.resolution, operator.poll_interval) == ("4K", 7.0)


class TestWhatFailsCheaplyFailsBeforeThePost:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"prompt": ""}, "prompt=''"),
            ({"prompt": "x" * 5001}, "5001 characters"),
            ({"prompt": ["a"]}, "prompt"),
            ({"max_images": "3"}, "max_images=3"),
            ({"max_images": 11}, "1-10"),
            ({"max_images": True}, "max_images=True"),
            ({"aspect_ratio": "5:4"}, "21:9"),
            ({"image_urls": "https://example.com/a.png"}, "bare string"),
            ({"image_urls": ["./a.png"]}, "presigned"),
            ({"mode": "text-to-image", "image_urls": ["https://example.com/a.png"]}, "takes no reference"),
            ({"filename": "../../{index}"}, "filename"),
            ({"filename": "hero", "max_images": 2, "destination": "file:///x"}, "Add {index}"),
            ({"destination": "images"}, "relative path"),
            ({"destination": "s3:///prefix"}, "names no bucket"),
            ({"generation_timeout": 0}, "generation_timeout"),
            ({"poll_interval": -1}, "poll_interval"),
        ],
    )
    def test_static_mistakes_when_the_dag_is_parsed(self, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match="(?s)" + says.replace("{", r"\{")):
            SeedreamGenerateOperator(task_id="generate", **{"prompt": "a fox", **arguments})

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"prompt": "{{ '' }}"}, "prompt='': the template rendered to nothing"),
            (
                {"prompt": "{{ ti.xcom_pull(task_ids='missing') }}"},
                "prompt='None': the template rendered to nothing",
            ),
            ({"prompt": "a mug {{ conn.seedream_default.password }}"}, "holds the API key"),
            ({"image_urls": "{{ [] }}"}, "rendered to nothing, an empty list"),
            ({"filename": "{{ none }}", "destination": "file:///tmp"}, "filename='None'"),
            ({"max_images": "{{ 12 }}"}, "max_images=12: must be a whole number 1-10"),
            ({"aspect_ratio": "{{ none }}"}, "aspect_ratio='None': the template rendered to nothing"),
            ({"image_urls": "{{ 'https://example.com/a.png' }}"}, "bare string"),
            ({"image_urls": ["{{ 'a.png' }}"]}, "image_urls[0]='a.png'"),
            ({"destination": "relative/folder{{ '' }}"}, "relative path"),
            (
                {"destination": "file:///tmp", "filename": "hero{{ '' }}", "max_images": "{{ 2 }}"},
                "Add {index}",
            ),
            ({"destination": "file:///proc/nowhere"}, "/proc/nowhere"),
            ({"destination": "nosuch://bucket/x"}, "nosuch://"),
            ({"destination": "{{ '' }}"}, "names no location"),
            ({"seedream_conn_id": "nobody"}, "airflow connections add nobody"),
        ],
    )
    def test_the_rest_when_the_task_starts(
        self,
        dag: DAG,
        connected: Apixo,
        capsys: pytest.CaptureFixture[str],
        arguments: dict[str, Any],
        says: str,
    ) -> None:
        run = run_generate(dag, **arguments)
        assert run.state == "failed"
        assert says in capsys.readouterr().out
        assert connected.requests("/generateTask") == []

    def test_a_wrong_key_is_refused_and_charges_nothing(
        self, dag: DAG, connected: Apixo, connect: Connect, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connect(host=connected.base_url, password="invalid")
        assert run_generate(dag).state == "failed"
        assert "Put a valid APIXO key" in capsys.readouterr().out
        assert connected.tasks() == []


class TestAfterThePurchase:
    def test_a_lost_answer_ends_the_task(
        self, dag: DAG, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connected.fault("/generateTask", drop="after")
        assert run_generate(dag).state == "failed"
        log = capsys.readouterr().out
        assert "AirflowFailException" in log
        assert "may have accepted and charged" in log

    def test_images_that_cannot_be_fetched_end_the_task_and_say_how_to_get_them(
        self, dag: DAG, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connected.fault("/results", times=99, status=404, body="gone")
        run = run_generate(dag, destination=tmp_path.as_uri())
        log = capsys.readouterr().out
        assert run.state == "failed"
        assert "AirflowFailException" in log
        assert f"seedream_task_id='{connected.tasks()[0]['taskId']}' finish the job at no cost" in log

    def test_our_deadline_comes_before_airflows_execution_timeout(
        self, dag: DAG, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = run_generate(
            dag,
            prompt="x [[seconds:90000]]",
            deferrable=False,
            retries=0,
            execution_timeout=timedelta(seconds=3),
        )
        assert run.state == "failed"
        log = capsys.readouterr().out
        assert f"Task {connected.tasks()[0]['taskId']} did not finish by its deadline" in log
        assert "AirflowTaskTimeout" not in log

    def test_a_destination_that_renders_to_nothing_is_no_wish_for_urls_only(
        self, dag: DAG, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dag.render_template_as_native_obj = True
        assert run_generate(dag, destination="{{ none }}").state == "failed"
        assert connected.tasks() == []

    def test_a_wrong_setting_is_found_before_the_purchase(
        self, dag: DAG, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SEEDREAM__MIN_DEFERRAL_SECONDS", "6s")
        assert run_generate(dag).state == "failed"
        assert connected.tasks() == []


class TestTemplates:
    def test_a_rendered_number_is_fine(self, dag: DAG, connected: Apixo) -> None:
        assert run_generate(dag, max_images="{{ 1 + 2 }}").xcom("generate")["requested"] == 3

    def test_a_prompt_can_live_in_a_file(self, dag: DAG, tmp_path: Path) -> None:
        (tmp_path / "fox.txt").write_text("a fox for {{ dag.dag_id }}")
        dag.template_searchpath = [str(tmp_path)]
        result = run_generate(dag, prompt="fox.txt").xcom("generate")
        assert result["request"]["prompt"] == f"a fox for {dag.dag_id}"

    def test_native_rendering(self, dag: DAG, connected: Apixo) -> None:
        dag.render_template_as_native_obj = True
        result = run_generate(dag, prompt="{{ 1984 }}", max_images="{{ 2 }}").xcom("generate")
        assert (result["request"]["prompt"], result["requested"]) == ("1984", 2)


class TestSubmit:
    def test_returns_the_task_id_and_pushes_what_the_next_step_needs(
        self, dag: DAG, connected: Apixo
    ) -> None:
        with dag:
            SeedreamSubmitOperator(
                task_id="submit", prompt="a fox", max_images=3, resolution="4K", aspect_ratio="1:1"
            )
        run = run_dag(dag)
        (bought,) = connected.tasks()
        submission = run.xcom("submit", "submission")
        assert run.xcom("submit") == bought["taskId"] == submission["seedream_task_id"]
        assert (submission["model"], submission["resolution"]) == ("seedream-4-5", "4K")
        assert (submission["requested"], submission["charged_usd"]) == (3, 0.105)
        assert submission["size"] == [4096, 4096]
        assert submission["created_at"].endswith("+00:00")

    def test_expand(self, dag: DAG, connected: Apixo) -> None:
        with dag:
            SeedreamSubmitOperator.partial(task_id="submit", max_images=1).expand(prompt=["a fox", "an owl"])
        run = run_dag(dag)
        assert run.state == "success"
        assert len(connected.tasks()) == 2
        assert run.xcom("submit", map_index=0) != run.xcom("submit", map_index=1)

    def test_expand_kwargs_from_another_task(self, dag: DAG, connected: Apixo) -> None:
        @task
        def catalogue() -> list[dict[str, Any]]:
            return [{"prompt": "a fox"}, {"prompt": "an owl", "max_images": 2}]

        with dag:
            SeedreamSubmitOperator.partial(task_id="submit").expand_kwargs(catalogue())
        assert run_dag(dag).state == "success"
        assert sorted(bought["requested"] for bought in connected.tasks()) == [1, 2]

    def test_a_mistake_in_a_row_is_not_retried(self) -> None:
        with pytest.raises(AirflowFailException, match="aspect_ratio"):
            SeedreamSubmitOperator(task_id="submit", prompt="an owl", aspect_ratio="7:5")

    def test_one_bad_row_leaves_the_others_alone(self, dag: DAG, connected: Apixo) -> None:
        @task
        def catalogue() -> list[dict[str, Any]]:
            return [{"prompt": "a fox"}, {"prompt": "an owl", "aspect_ratio": "7:5"}]

        with dag:
            SeedreamSubmitOperator.partial(task_id="submit").expand_kwargs(catalogue())
        run = run_dag(dag)
        assert (run.task_state("submit", 0), run.task_state("submit", 1)) == ("success", "failed")
        assert len(connected.tasks()) == 1


def asset_event_extra(dag_id: str) -> dict[str, Any]:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        event = session.scalars(select(AssetEvent).where(AssetEvent.source_dag_id == dag_id)).one()
        return dict(event.extra)


pytestmark = pytest.mark.usefixtures("quick")


class TestReuseNeedsADestination:
    @pytest.mark.parametrize("if_exists", ["reuse", "fail"])
    def test_and_says_so_when_the_dag_is_parsed(self, if_exists: str) -> None:
        with pytest.raises(ValueError, match=f"if_exists='{if_exists}'"):
            SeedreamGenerateOperator(task_id="generate", prompt="x", if_exists=if_exists)


class TestRefusedWhenTheDagIsParsed:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"durable": False}, "durable.*Leave durable=True"),
            ({"deferrable": False}, "deferrable.*request_type='async'"),
            ({"request_type": "push"}, "request_type.*async, callback"),
            ({"request_type": "async", "callback_url": "https://mine.example.com"}, "callback_url"),
            ({"callback_url": "http://mine.example.com"}, "callback_url.*https"),
            ({"wait_for_completion": False}, "wait_for_completion.*callback_url"),
            (
                {
                    "wait_for_completion": False,
                    "callback_url": "https://mine.example.com",
                    "destination": "file:///tmp/images",
                },
                "destination.*wait_for_completion=True",
            ),
            (
                {
                    "wait_for_completion": False,
                    "callback_url": "https://mine.example.com",
                    "on_partial": "top_up",
                },
                "on_partial.*wait_for_completion=True",
            ),
        ],
    )
    def test_with_field_and_remedy(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidRequestError, match=words):
            make_with_callback(options)

    @pytest.mark.parametrize("make", [SeedreamGenerateOperator, SeedreamSubmitOperator])
    def test_before_airflow_3_3(
        self, make: Callable[..., BaseOperator], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(airflow_compat, "AIRFLOW_VERSION", "3.2.3")
        with pytest.raises(InvalidRequestError, match=r"request_type.*Airflow 3\.3.*task state store"):
            make_with_callback({}, make)

    @pytest.mark.parametrize(
        ("setting", "value", "make"),
        [
            ("WORKERS__STATE_STORE_BACKEND", "mine.Backend", SeedreamGenerateOperator),
            ("STATE_STORE__CLEAR_ON_SUCCESS", "True", SeedreamSubmitOperator),
        ],
    )
    def test_where_the_api_server_would_not_find_the_record(
        self, setting: str, value: str, make: Callable[..., BaseOperator], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"AIRFLOW__{setting}", value)
        with pytest.raises(InvalidRequestError, match=setting.partition("__")[2].lower()):
            make_with_callback({}, make)

    def test_generate_needs_its_record_no_longer_than_it_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
        make_with_callback({})
