"""What is sent, recorded and bought in addition."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, redact
from PIL import Image

from airflow_provider_seedream import airflow_compat
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.callbacks.delivery import make_delivery_key
from airflow_provider_seedream.errors import (
    TooFewImagesError,
)
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import (
    SeedreamGenerateOperator,
)
from airflow_provider_seedream.purchases import buying
from airflow_provider_seedream.purchases.journal_store import KEY
from airflow_provider_seedream.purchases.purchases import Purchases
from airflow_provider_seedream.worker import waiting
from tests.support.airflow_tries import TaskTries, deferral, worker_dies
from tests.support.api_server import ApiServer, make_resume_event
from tests.support.apixo import Apixo, Connect
from tests.support.callbacks import LONG, generate_with_callback, make_with_callback
from tests.support.purchases import (
    AnyTask,
    assert_one_purchase,
    bought,
    charged,
    generate,
    submit,
    wait_until_finished,
)

pytestmark = pytest.mark.usefixtures("quick")


class TestTopUp:
    def top_up(self, tmp_path: Path, **arguments: Any) -> TaskTries:
        """Two of three images come; ``deliver:2`` lets the third one come when it is bought alone."""
        return generate(
            **{
                "prompt": "x [[deliver:2]]",
                "max_images": 3,
                "aspect_ratio": "1:1",
                "on_partial": "top_up",
                "destination": tmp_path.as_uri(),
                **arguments,
            }
        )

    @pytest.mark.parametrize("deferrable", [True, False])
    @pytest.mark.parametrize("state_store", [True, False])
    def test_buys_just_the_missing_images_and_merges(
        self, connected: Apixo, tmp_path: Path, deferrable: bool, state_store: bool
    ) -> None:
        result = self.top_up(tmp_path, deferrable=deferrable, state_store=state_store).run()
        main, extra = connected.tasks()
        assert (main["requested"], extra["requested"]) == (3, 1)
        assert (result["requested"], result["delivered"]) == (3, 3)
        assert (result["seedream_task_id"], result["top_up_task_ids"]) == (main["taskId"], [extra["taskId"]])
        assert [Image.open(tmp_path / image["name"]).size for image in result["images"]] == [(2048, 2048)] * 3
        assert Decimal(str(result["cost_usd"])) == charged(connected) == Decimal("0.105")
        (manifest,) = tmp_path.glob("*.json")
        record = json.loads(manifest.read_text())
        assert (record["cost_usd"], record["top_up_task_ids"]) == (0.105, [extra["taskId"]])

    def test_goes_on_until_all_are_there(self, connected: Apixo, tmp_path: Path) -> None:
        result = self.top_up(tmp_path, prompt="x [[deliver:1]]", max_images=4).run()
        assert [task["requested"] for task in connected.tasks()] == [4, 3, 2, 1]
        assert result["delivered"] == 4

    def test_but_not_for_ever(self, connected: Apixo, tmp_path: Path) -> None:
        result = self.top_up(tmp_path, prompt="x [[deliver:1]]", max_images=9).run()
        assert (len(bought(connected)), result["delivered"]) == (4, 4)

    def test_stays_within_the_budget(self, connected: Apixo, tmp_path: Path) -> None:
        """Images that did not come were refunded, so a budget for all covers the missing ones."""
        result = self.top_up(tmp_path, prompt="x [[deliver:1]]", max_images=4, max_cost=0.14).run()
        assert result["delivered"] == 4
        assert charged(connected) == Decimal("0.14")

    def test_a_connected_set_is_complete_as_it_comes(self, connected: Apixo, tmp_path: Path) -> None:
        result = self.top_up(tmp_path, sequential_image_generation="auto").run()
        assert (len(bought(connected)), result["delivered"]) == (1, 2)

    def test_one_that_is_refused_loses_nothing(
        self, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connected.fault("/generateTask", every=2, status=402)
        result = self.top_up(tmp_path).run()
        assert (len(bought(connected)), result["delivered"]) == (1, 2)
        assert "1 image(s) are missing and cannot be bought" in capsys.readouterr().out

    def test_one_that_fails_is_not_tried_again(
        self, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def failing(**fields: Any) -> GenerateRequest:
            return GenerateRequest(**{**fields, "prompt": "x [[fail:Timeout]]"})

        with mock.patch.object(buying, "GenerateRequest", failing):
            result = self.top_up(tmp_path).run()
        assert (result["delivered"], result["top_up_task_ids"]) == (2, [])
        assert len(bought(connected)) == 2
        assert Decimal(str(result["cost_usd"])) == charged(connected)
        assert "A top-up brought nothing" in capsys.readouterr().out

    def test_one_whose_answer_is_lost_is_not_bought_again(
        self, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connected.fault("/generateTask", every=2, drop="after")
        task = self.top_up(tmp_path)
        assert task.run()["delivered"] == 2
        assert "may have accepted and charged" in capsys.readouterr().out
        assert task.run()["delivered"] == 2
        assert len(bought(connected)) == 2

    def test_a_retry_carries_on_with_it(self, connected: Apixo, tmp_path: Path) -> None:
        task = self.top_up(tmp_path)
        with worker_dies(waiting, "choose_pace", at=3):
            task.run()
        assert task.run()["delivered"] == 3
        assert len(bought(connected)) == 2

    def test_what_came_is_saved_before_more_is_bought(self, connected: Apixo, tmp_path: Path) -> None:
        with worker_dies(Purchases, "top_up"):
            self.top_up(tmp_path).run()
        assert len(list(tmp_path.glob("*.png"))) == 2
        assert len(list(tmp_path.glob("*.json"))) == 1

    def test_min_images_may_still_fail_it(self, connected: Apixo, tmp_path: Path) -> None:
        connected.fault("/generateTask", every=2, status=402)
        with pytest.raises(AirflowFailException, match="min_images=3"):
            self.top_up(tmp_path, min_images=3).run()


class TestTopUps:
    def top_up(self, tmp_path: Path, **arguments: Any) -> TaskTries:
        fixed = {"prompt": "x [[deliver:2]]", "max_images": 3, "on_partial": "top_up"}
        return generate(**fixed, destination=tmp_path.as_uri(), **arguments)

    @pytest.mark.parametrize("extra", [{}, {"provider": "value"}])
    def test_go_the_way_of_the_first_submission(
        self, connected: Apixo, tmp_path: Path, connect: Connect, extra: dict[str, str]
    ) -> None:
        connect(host=connected.base_url, extra=extra)
        with mock.patch.object(
            SeedreamHook, "submit", autospec=True, side_effect=SeedreamHook.submit
        ) as post:
            self.top_up(tmp_path, provider="official").run()
        assert [call.args[1].provider for call in post.call_args_list] == ["official", "official"]

    def test_refused_for_now_are_left_to_the_retry(self, connected: Apixo, tmp_path: Path) -> None:
        task = self.top_up(tmp_path, min_images=3)
        connected.fault("/generateTask", every=2, status=429, headers={"Retry-After": "90"})
        with pytest.raises(TooFewImagesError, match="min_images=3.*could not be bought.*Retry: carries on"):
            task.run()
        assert task.run()["delivered"] == 3
        assert len(bought(connected)) == 2

    def test_are_not_bought_without_time_to_wait_for_them(
        self, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = self.top_up(tmp_path, execution_timeout=timedelta(minutes=10))
        operator, deferral = task.run_until_deferral()
        wait_until_finished(connected)
        task._started -= timedelta(minutes=10)
        result = task.resume(operator, {"verdicts": [{"task_id": deferral.trigger.seedream_task_ids[0]}]})
        assert (result["delivered"], len(bought(connected))) == (2, 1)
        assert "too little for a top-up" in capsys.readouterr().out


class TestARefusalThatNamesATask:
    def test_is_waited_for_and_not_bought_again(self, any_task: AnyTask, connected: Apixo) -> None:
        task_id = submit(prompt="another").run()
        connected.fault("/generateTask", status=500, body={"code": 500, "data": {"taskId": task_id}})
        result = any_task(on_ambiguous_submit="resubmit").run()
        assert_one_purchase(connected, result)


class TestWhatIsSent:
    def test_a_callback_to_airflow_with_a_token_that_names_the_task(self, endpoint: ApiServer) -> None:
        generate_with_callback().run_until_deferral()
        heard = endpoint.wait_for()
        task = heard.token.task
        assert heard.path.startswith("/airflow/seedream/callback/")
        assert (task.dag_id, task.run_id, task.task_id, task.map_index) == ("d", "r", "generate", -1)

    def test_the_digest_is_recorded_before_the_submission(
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        tries = generate_with_callback()
        tries.run_until_deferral()
        before, after = (write for write in tries.store.writes if "intent" in write)
        assert before["intent"]["callback_digest"] == endpoint.wait_for().token.digest
        assert after["purchases"][0]["callback_digest"] == endpoint.wait_for().token.digest

    def test_the_secret_is_nowhere_in_airflow(
        self, endpoint: ApiServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        tries = generate_with_callback()
        operator, _ = tries.run_until_deferral()
        nonce = endpoint.wait_for().token.nonce
        rendered = {name: getattr(operator, name) for name in operator.template_fields}
        everything = [tries.store.texts, tries.xcom.texts, rendered, vars(operator), capfd.readouterr()]
        assert "APIXO accepted" in repr(everything)
        assert nonce not in repr(everything)
        assert nonce not in redact(f"APIXO does not like callback_url .../{nonce}"), "an answer may quote it"

    def test_each_try_and_each_top_up_has_its_own(self, endpoint: ApiServer) -> None:
        few = {"prompt": "a fox [[deliver:1]]", "max_images": 2, "on_partial": "top_up"}
        tries = generate_with_callback(**few, first_poll=0.0, poll_interval=0.05)
        operator, _ = tries.run_until_deferral()
        endpoint.stores.append(tries.store)
        first = endpoint.wait_for()
        tries.store.set(make_delivery_key(first.token.digest), first.record.to_json())
        tries.resume(operator, make_resume_event())
        second = endpoint.wait_for(2)
        assert first.token.nonce != second.token.nonce
        assert len(tries.store.get(KEY)["purchases"]) == 2

    def test_the_fingerprint_is_that_of_the_same_request_without(self, endpoint: ApiServer) -> None:
        told, polling = generate_with_callback(), generate_with_callback(request_type="async")
        told.run_until_deferral()
        polling.run_until_deferral()
        assert told.store.get(KEY)["fingerprint"] == polling.store.get(KEY)["fingerprint"]


class TestOwnEndpoint:
    def test_gets_the_result_while_the_task_polls_as_usual(
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        mine = f"{endpoint.base_url}/mine?for=fox"
        tries = generate_with_callback(callback_url=mine, first_poll=0.0, poll_interval=0.05)
        assert tries.run()["delivered"] == 1
        heard = endpoint.wait_for()
        assert heard.path == "/mine?for=fox"
        assert json.loads(heard.body)["data"]["taskId"] == connected.tasks()[0]["taskId"]
        assert not deferral(tries.deferrals[0])["awaits_callback"]

    def test_needs_no_waiting_task(self, endpoint: ApiServer, connected: Apixo) -> None:
        tries = generate_with_callback(callback_url=f"{endpoint.base_url}/mine", wait_for_completion=False)
        bought = tries.run()
        assert bought == tries.xcom.get("submission")
        assert not tries.deferrals
        assert endpoint.wait_for()

    def test_gets_a_top_up_as_well(self, endpoint: ApiServer) -> None:
        options = {"max_images": 2, "on_partial": "top_up", "first_poll": 0.0, "poll_interval": 0.05}
        generate_with_callback(
            prompt="a fox [[deliver:1]]", callback_url=f"{endpoint.base_url}/mine", **options
        ).run()
        assert endpoint.wait_for(2).path == "/mine"

    def test_needs_neither_airflow_3_3_nor_a_record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(airflow_compat, "AIRFLOW_VERSION", "3.2.3")
        make_with_callback({"callback_url": "https://mine.example.com/hook", "durable": False})


class TestRefusedBeforeAnythingIsBought:
    def test_where_the_api_server_has_no_public_address(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SEEDREAM__CALLBACK_BASE_URL", "http://airflow.example.com")
        with pytest.raises(AirflowFailException, match=r"\[seedream\] callback_base_url.*https"):
            generate_with_callback().run()
        assert not connected.tasks()

    def test_where_a_template_of_ones_own_url_renders_to_nothing(self, connected: Apixo) -> None:
        def make() -> SeedreamGenerateOperator:
            operator = SeedreamGenerateOperator(
                task_id="generate",
                prompt="a fox",
                request_type="callback",
                callback_url="{{ var.value.hook }}",
            )
            operator.callback_url = ""
            return operator

        with pytest.raises(AirflowFailException, match="callback_url"):
            TaskTries(make).run()
        assert not connected.tasks()


class TestAnOlderWorker:
    def test_polls_as_usual_where_nothing_tells_a_callback_from_a_forged_one(
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        tries = TaskTries(
            lambda: SeedreamGenerateOperator(task_id="generate", prompt=LONG, request_type="callback"),
            state_store=False,
        )
        _, outcome = tries.run_until_deferral()
        assert not deferral(outcome)["awaits_callback"]
        assert SeedreamHook().get_status(connected.tasks()[0]["taskId"]).state != "failed"
