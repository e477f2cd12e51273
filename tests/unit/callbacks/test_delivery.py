"""What is sent and what is handed on is read as leniently as the API's own answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.callbacks.delivery import Delivery, DeliveryRecord, ResumeEvent


def delivery(code: int = 200, **data: Any) -> Delivery | None:
    body = {"code": code, "message": "m", "data": {"taskId": "task_1", **data}}
    return Delivery.from_body(json.dumps(body).encode())


class TestTheState:
    @pytest.mark.parametrize("state", ["success", "SUCCESS", " Success\n", "failed", "FAILED", "Failed "])
    def test_is_final_however_it_is_written(self, state: str) -> None:
        found = delivery(state=state)
        assert found is not None
        assert found.is_final

    @pytest.mark.parametrize(
        "state", ["failed", " FAILED", "processing", "Processing_R2", "x" * 300, "a\ud800b"]
    )
    def test_is_the_one_that_a_status_would_have(self, state: str) -> None:
        found = delivery(state=state)
        assert found is not None
        assert found.state == TaskStatus.from_data({"state": state}, "task_1").state

    @pytest.mark.parametrize("state", [None, 1, [], "", " "])
    def test_is_failed_where_only_the_code_says_so(self, state: Any) -> None:
        assert delivery(500, state=state) == Delivery("task_1", "failed")
        assert delivery(200, state=state) == Delivery("task_1", "")

    def test_counts_more_than_the_code(self) -> None:
        assert delivery(500, state="processing") == Delivery("task_1", "processing")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"[" * 100_000, b"\xff", b'{"data": 1}', b'{"data": {"state": "success"}}'],
)
def test_what_is_no_delivery_is_none(body: bytes) -> None:
    assert Delivery.from_body(body) is None


@pytest.mark.parametrize("task_id", [None, 1, "", "a\nb", "x" * 501])
def test_a_delivery_of_no_task_is_none(task_id: Any) -> None:
    assert delivery(taskId=task_id, state="success") is None


class TestADeliveryRecord:
    RECORD = DeliveryRecord(
        digest="d", seedream_task_id="t1", state="success", delivered_at=9.5, resumed=(("wait", -1),)
    )

    def test_comes_through_as_json(self) -> None:
        assert DeliveryRecord.from_json(json.loads(json.dumps(self.RECORD.to_json()))) == self.RECORD

    def test_remembers_every_task_that_was_resumed(self) -> None:
        assert self.RECORD.with_resumed("wait", 3).resumed == (("wait", -1), ("wait", 3))

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            {},
            {"digest": "d"},
            {**RECORD.to_json(), "resumed": 1},
            {**RECORD.to_json(), "delivered_at": "x"},
        ],
    )
    def test_is_none_where_it_is_none(self, value: Any) -> None:
        assert DeliveryRecord.from_json(value) is None


class TestAResumeEvent:
    def test_comes_through_as_json(self) -> None:
        event = ResumeEvent(delivered_at=1.5, deadline=9.0, seedream_task_ids=("task_1", "task_2"))
        assert ResumeEvent.from_event(json.loads(json.dumps(event.to_event()))) == event

    @pytest.mark.parametrize("fields", [{}, {"seedream_task_ids": None}, {"seedream_task_ids": "task_1"}])
    def test_of_another_release_is_read_without_what_it_does_not_say(self, fields: dict[str, Any]) -> None:
        event = {"callback": {"delivered_at": 1, "newer": True, **fields}}
        assert ResumeEvent.from_event(event) == ResumeEvent(delivered_at=1.0)

    @pytest.mark.parametrize("event", [None, {}, {"verdicts": []}, {"callback": 1}, {"callback": {}}])
    def test_is_not_seen_in_an_event_of_a_trigger(self, event: Any) -> None:
        assert ResumeEvent.from_event(event) is None
