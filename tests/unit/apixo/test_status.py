"""A status answer is read whatever shape it comes in, or refused with one documented error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_seedream.apixo.status import MAX_TASK_ID, TaskStatus, is_task_id
from airflow_provider_seedream.errors import UnreadableAnswerError

URLS = ["https://r2.apixo.ai/img1.png", "https://cdn.apixo.ai/img2.png"]


def read(**data: Any) -> TaskStatus:
    return TaskStatus.from_data({"taskId": "t1", **data}, "t1")


class TestShapesSeenInTheWild:
    @pytest.mark.parametrize("state", ["pending", "processing", "processing_r2", "Queued", "whatever"])
    def test_every_state_but_the_two_ends_is_in_progress(self, state: str) -> None:
        assert not read(state=state).finished

    @pytest.mark.parametrize("result", [json.dumps({"resultUrls": URLS}), {"resultUrls": URLS}])
    def test_result_json_as_text_and_as_object(self, result: Any) -> None:
        assert read(state="success", resultJson=result).urls == tuple(URLS)

    def test_only_task_id_and_state(self) -> None:
        status = read(state="processing")
        assert (status.created_at, status.completed_at, status.fail_code) == (None, None, None)

    def test_task_id_missing(self) -> None:
        assert TaskStatus.from_data({"state": "pending"}, "t1").task_id == "t1"

    def test_times_are_epoch_seconds(self) -> None:
        status = read(state="processing", createTime=1767965610929, completeTime="1767965652000")
        assert (status.created_at, status.completed_at) == (1767965610.929, 1767965652.0)

    def test_upper_case_states(self) -> None:
        assert read(state="FAILED").finished

    def test_unknown_fields_are_ignored(self) -> None:
        assert read(state="pending", progress=0.4, nested={"a": []}).state == "pending"


class TestATaskId:
    @pytest.mark.parametrize("value", ["task_12345678", "0", "a/b?c&d", "狐", "x" * MAX_TASK_ID])
    def test_is_any_text_that_can_be_stored_and_printed(self, value: str) -> None:
        assert is_task_id(value)

    @pytest.mark.parametrize("value", ["", "x" * (MAX_TASK_ID + 1), "a\nb", "a\0", "\ud800", None, 7, ["t1"]])
    def test_is_nothing_else(self, value: Any) -> None:
        assert not is_task_id(value)


class TestWhatCannotBeRead:
    @pytest.mark.parametrize("data", [None, [], "x", 7, {}, {"state": None}, {"state": ""}, {"state": 3}])
    def test_no_status(self, data: Any) -> None:
        with pytest.raises(UnreadableAnswerError, match="t1"):
            TaskStatus.from_data(data, "t1")

    @pytest.mark.parametrize(
        "result",
        [None, "", "{broken", "[]", {}, {"resultUrls": []}, {"resultUrls": "x"}, {"resultUrls": [1]}],
    )
    def test_success_without_images(self, result: Any) -> None:
        with pytest.raises(UnreadableAnswerError, match="success, but 'resultJson'"):
            read(state="success", resultJson=result)

    def test_the_status_of_another_task(self) -> None:
        with pytest.raises(UnreadableAnswerError, match="another task"):
            TaskStatus.from_data({"taskId": "t2", "state": "pending"}, "t1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


class TestHostileAnswers:
    @given(
        data=st.dictionaries(
            st.sampled_from(
                ["taskId", "state", "resultJson", "failCode", "failMsg", "createTime", "completeTime"]
            ),
            json_values | st.sampled_from(["success", "failed", "t1"]),
        )
    )
    def test_any_json_gives_a_status_or_the_documented_error(self, data: dict[str, Any]) -> None:
        try:
            status = TaskStatus.from_data(data, "t1")
        except UnreadableAnswerError:
            return
        assert TaskStatus.from_json(json.loads(json.dumps(status.to_json()))) == status
