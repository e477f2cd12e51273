"""Budgets, balances, missing images, and images that are there already."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from PIL import Image

from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.errors import RefusedError
from airflow_provider_seedream.operators.seedream import (
    SeedreamDownloadOperator,
    SeedreamGenerateOperator,
    SeedreamSubmitOperator,
)
from airflow_provider_seedream.purchases import buying
from airflow_provider_seedream.purchases.purchases import Purchases
from airflow_provider_seedream.worker import waiting
from tests.support.airflow_tries import TaskTries, worker_dies
from tests.support.apixo import Apixo, Connect
from tests.support.purchases import AnyTask, bought, generate

pytestmark = pytest.mark.usefixtures("quick")


def charged(apixo: Apixo) -> Decimal:
    """USD that the sandbox kept, in all."""
    account = apixo.ledger()["accounts"][apixo.key]
    return Decimal(str(account["charged"])) - Decimal(str(account["refunded"]))


class TestMaxCost:
    def test_a_submission_beyond_it_is_not_sent(self, any_task: AnyTask, connected: Apixo) -> None:
        with pytest.raises(AirflowFailException, match=r"max_cost=0.1 USD does not cover.*0.105 USD"):
            any_task(max_images=3, max_cost=0.1).run()
        assert connected.requests("/generateTask") == []

    def test_a_submission_that_just_fits_is_sent(self, any_task: AnyTask, connected: Apixo) -> None:
        any_task(max_images=3, max_cost=0.105).run()
        assert len(bought(connected)) == 1

    def test_it_goes_by_the_price_of_the_connection(
        self, any_task: AnyTask, connected: Apixo, connect: Connect
    ) -> None:
        connect(host=connected.base_url, extra={"price_per_image": "0.04"})
        with pytest.raises(AirflowFailException, match="max_cost"):
            any_task(max_images=3, max_cost=0.105).run()

    def test_a_charge_that_may_have_happened_counts(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/generateTask", drop="after")
        with pytest.raises(AirflowFailException, match="max_cost=0.05 USD.*Charged: perhaps 0.035 USD"):
            any_task(on_ambiguous_submit="resubmit", max_cost=0.05).run()
        assert len(bought(connected)) == 1

    def test_what_was_refunded_does_not(self, connected: Apixo) -> None:
        task = generate(prompt="x [[fail:Timeout]]", max_cost=0.035)
        with pytest.raises(Exception, match="Timeout"):
            task.run()
        task.run(prompt="x")
        assert len(bought(connected)) == 2

    @pytest.mark.parametrize("value", [0, -1, True, "much", float("nan"), float("inf")])
    def test_a_wrong_one_is_refused_when_the_dag_is_parsed(self, value: Any) -> None:
        with pytest.raises(ValueError, match="max_cost.*must be USD above 0"):
            SeedreamSubmitOperator(task_id="submit", prompt="a fox", max_cost=value)

    @pytest.mark.parametrize("rendered", ["", "None", None, "much"])
    def test_a_template_that_renders_to_none_is_not_no_limit(self, connected: Apixo, rendered: Any) -> None:
        operator = SeedreamSubmitOperator(task_id="submit", prompt="a fox", max_cost="{{ params.budget }}")
        operator.max_cost = rendered
        with pytest.raises(AirflowFailException, match="max_cost"):
            TaskTries(lambda: operator).run()
        assert connected.requests("/generateTask") == []


class TestCheckBalance:
    def test_refuses_before_the_post(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/apikeys", status=200, body={"code": 200, "message": "success", "data": 0.03})
        with pytest.raises(AirflowFailException, match=r"balance of 0.03 USD does not cover.*0.035 USD"):
            any_task(check_balance=True).run()
        assert connected.requests("/generateTask") == []

    def test_a_balance_that_just_covers_it_is_enough(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/apikeys", status=200, body={"code": 200, "message": "success", "data": 0.035})
        any_task(check_balance=True).run()
        assert len(bought(connected)) == 1

    def test_a_balance_that_cannot_be_read_is_not_taken_for_granted(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        connected.fault("/apikeys", status=429, headers={"Retry-After": "90"})
        with pytest.raises(RefusedError, match="did not tell the balance.*Retry: submits anew"):
            any_task(check_balance=True).run()
        assert connected.requests("/generateTask") == []


class TestPartialResults:
    def test_are_accepted_by_default(self, connected: Apixo) -> None:
        result = generate(prompt="x [[deliver:2]]", max_images=4).run()
        assert (result["delivered"], result["top_up_task_ids"]) == (2, [])
        assert charged(connected) == Decimal("0.07")

    def test_fewer_than_min_images_fail_with_what_came_saved(self, connected: Apixo, tmp_path: Path) -> None:
        task = generate(prompt="x [[deliver:2]]", max_images=4, min_images=3, destination=tmp_path.as_uri())
        with pytest.raises(AirflowFailException, match=r"2 image\(s\) were.*min_images=3.*manifest"):
            task.run()
        assert len(list(tmp_path.glob("*.png"))) == 2
        manifest = json.loads(next(tmp_path.glob("*.json")).read_text())
        assert (manifest["requested"], manifest["delivered"], manifest["cost_usd"]) == (4, 2, 0.07)

    def test_a_retry_finds_the_same_images_and_buys_nothing(self, connected: Apixo) -> None:
        task = generate(prompt="x [[deliver:2]]", max_images=4, min_images=3)
        for _ in range(2):
            with pytest.raises(AirflowFailException, match="min_images=3"):
                task.run()
        assert len(bought(connected)) == 1

    @pytest.mark.parametrize("value", [0, 3, True, "1", 1.5])
    def test_min_images_that_cannot_be_met_is_refused_when_the_dag_is_parsed(self, value: Any) -> None:
        with pytest.raises(ValueError, match="min_images"):
            SeedreamGenerateOperator(task_id="generate", prompt="x", max_images=2, min_images=value)


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


class TestIfExists:
    def task(self, tmp_path: Path, **arguments: Any) -> TaskTries:
        return generate(**{"destination": tmp_path.as_uri(), "max_images": 2, **arguments})

    @pytest.fixture(params=["{seedream_task_id}-{index}", "{fingerprint}-{index}", "refresh/hero-{index}"])
    def filename(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_a_refresh_with_the_same_request_costs_nothing(
        self, connected: Apixo, tmp_path: Path, filename: str
    ) -> None:
        first = self.task(tmp_path, filename=filename).run()
        again = self.task(tmp_path, filename=filename, if_exists="reuse").run()
        assert len(bought(connected)) == 1
        assert again["images"] == first["images"]
        assert again["manifest"] == first["manifest"]
        assert (again["reused"], again["cost_usd"], again["charged_usd"]) == (True, 0.0, 0.0)
        assert (first["reused"], first["cost_usd"]) == (False, 0.07)
        assert again.keys() == first.keys()

    def test_another_request_is_bought(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename).run()
        result = self.task(tmp_path, filename=filename, if_exists="reuse", prompt="an owl").run()
        assert not result["reused"]
        assert len(bought(connected)) == 2

    def test_a_changed_image_is_bought_anew(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename).run()
        image = next(tmp_path.rglob("*.png"))
        image.write_bytes(image.read_bytes()[:-1] + b"?")
        result = self.task(tmp_path, filename=filename, if_exists="reuse").run()
        assert not result["reused"]
        assert len(bought(connected)) == 2

    def test_fewer_images_than_wanted_are_no_result(self, connected: Apixo, tmp_path: Path) -> None:
        self.task(tmp_path, prompt="x [[deliver:1]]").run()
        assert self.task(tmp_path, prompt="x [[deliver:1]]", if_exists="reuse").run()["reused"]
        with pytest.raises(AirflowFailException, match="min_images=2"):
            self.task(tmp_path, prompt="x [[deliver:1]]", if_exists="reuse", min_images=2).run()
        assert len(bought(connected)) == 2

    def test_the_routing_is_part_of_the_request(
        self, connected: Apixo, tmp_path: Path, connect: Connect
    ) -> None:
        self.task(tmp_path).run()
        connect(host=connected.base_url, extra={"provider": "official"})
        assert not self.task(tmp_path, if_exists="reuse").run()["reused"]

    def test_replace_buys(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename).run()
        assert not self.task(tmp_path, filename=filename).run()["reused"]
        assert len(bought(connected)) == 2

    def test_fail_says_what_is_there(self, connected: Apixo, tmp_path: Path, filename: str) -> None:
        self.task(tmp_path, filename=filename, if_exists="fail").run()
        with pytest.raises(AirflowFailException, match="already holds .*nothing was bought"):
            self.task(tmp_path, filename=filename, if_exists="fail").run()
        assert len(bought(connected)) == 1

    @pytest.mark.parametrize("if_exists", ["fail", "reuse"])
    def test_a_retry_takes_its_own_images_for_what_they_are(
        self, connected: Apixo, tmp_path: Path, filename: str, if_exists: str
    ) -> None:
        task = self.task(tmp_path, filename=filename, if_exists=if_exists)
        first = task.run()
        again = task.run()
        assert (again["seedream_task_id"], again["reused"]) == (first["seedream_task_id"], False)
        assert len(bought(connected)) == 1

    def test_unknown_words_are_refused_when_the_dag_is_parsed(self) -> None:
        for name in ("if_exists", "on_partial", "on_ambiguous_submit"):
            with pytest.raises(ValueError, match=f"{name}='maybe': must be one of"):
                SeedreamGenerateOperator(task_id="generate", prompt="x", **{name: "maybe"})

    def test_a_file_name_with_a_fingerprint_needs_a_request(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="fingerprint"):
            SeedreamDownloadOperator(
                task_id="download",
                urls=["https://example.com/a.png"],
                destination=tmp_path.as_uri(),
                filename="{fingerprint}-{index}",
            )
