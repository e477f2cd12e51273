"""The vendor's Seedream 4.5 page against the client: what it sends and reads is what the page shows."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.apixo.answers import Reply, read_status, read_submission
from airflow_provider_seedream.apixo.causes import find_fail_cause
from airflow_provider_seedream.apixo.model import SEEDREAM_4_5, Pace
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.errors import Kind
from tests.support.vendor_page import EXAMPLES, example

SUBMISSIONS = sorted({path.stem for path in EXAMPLES.glob("submit_*.json")} - {"submit_response"})
NOW = 1_767_965_610.0


def reply(name: str) -> Reply:
    return Reply(200, {}, (EXAMPLES / f"{name}.json").read_bytes())


class TestWhatIsSent:
    @pytest.mark.parametrize("name", SUBMISSIONS)
    def test_every_request_body_of_the_page(self, name: str) -> None:
        body = example(name)
        options = {key: value for key, value in body.items() if key != "input"}
        assert GenerateRequest(**body["input"], **options).body == body


class TestWhatIsRead:
    def test_the_answer_to_a_submission(self) -> None:
        assert read_submission(reply("submit_response"), NOW) == "task_12345678"

    def test_a_task_in_progress(self) -> None:
        status = read_status(reply("status_processing"), "task_12345678", NOW)
        assert status == TaskStatus("task_12345678", "processing", created_at=1767965610.929)

    @pytest.mark.parametrize("name", ["status_success", "callback_success"])
    def test_a_finished_task(self, name: str) -> None:
        status = read_status(reply(name), "task_12345678", NOW)
        assert isinstance(status, TaskStatus)
        assert status.urls[0] == "https://r2.apixo.ai/img1.png"
        assert status.completed_at == 1767965652.317

    def test_a_failed_task(self) -> None:
        status = read_status(reply("status_failed"), "task_12345678", NOW)
        assert isinstance(status, TaskStatus)
        assert status.finished
        assert not status.succeeded
        assert find_fail_cause(status.fail_code).kind is Kind.CONTENT
        assert status.fail_message is not None
        assert status.fail_message.startswith("The input or output was flagged as sensitive.")


class TestNumbersOfThePage:
    def test_limits_price_and_lifetime(self) -> None:
        model = SEEDREAM_4_5
        assert (str(model.prompt_length), str(model.reference_images), str(model.images_per_task)) == (
            "1-5000",
            "1-14",
            "1-10",
        )
        assert str(model.price_per_image) == "0.035"
        assert model.result_lifetime == 15 * 24 * 60 * 60
        assert model.upstream_timeout == 180

    def test_pace(self) -> None:
        assert SEEDREAM_4_5.resolutions["2K"].pace == Pace(20, 3, 5)
        assert SEEDREAM_4_5.resolutions["4K"].pace == Pace(30, 5, 5)
