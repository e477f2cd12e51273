"""What other tasks of the run have bought is found by sensor and Download; the rest is not made up."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.callbacks.delivery import DeliveryRecord
from airflow_provider_seedream.errors import NotFinishedError, TaskFailedError
from airflow_provider_seedream.worker.submissions import (
    conclude_finished,
    find_submission,
    has_callback_come,
)

DIGEST = "d1" * 32
HOOK: Any = SimpleNamespace(account=SimpleNamespace(price_per_image=Decimal("0.05")))


def submission(task_id: str = "task_1", **fields: Any) -> Submission:
    return Submission(
        seedream_task_id=task_id, price_per_image=Decimal("0.035"), resolution="4K", requested=2, **fields
    )


def context(pushed: dict[int | None, Any], map_index: int = -1) -> Any:
    """A context whose XComs lie at map indexes; ``None`` pulls them all."""

    def xcom_pull(task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        return pushed.get(map_indexes) if task_ids == "submit" else None

    return {"ti": SimpleNamespace(map_index=map_index, xcom_pull=xcom_pull)}


OPERATOR: Any = SimpleNamespace(upstream_task_ids={"other", "submit"}, log=SimpleNamespace(warning=print))


class TestASubmissionIsFound:
    def test_where_the_upstream_task_is_not_mapped(self) -> None:
        found = find_submission(context({-1: submission().to_json()}), OPERATOR, HOOK, "task_1")
        assert found == submission()

    def test_at_the_same_map_index(self) -> None:
        pushed = {1: submission("task_2").to_json(), 0: submission("task_1").to_json()}
        assert find_submission(context(pushed, 1), OPERATOR, HOOK, "task_2") == submission("task_2")

    def test_at_another_map_index_where_a_list_was_reordered(self) -> None:
        every = [submission("task_1").to_json(), None, submission("task_2").to_json()]
        assert find_submission(context({None: every}, 0), OPERATOR, HOOK, "task_2") == submission("task_2")

    def test_or_is_what_the_parameters_tell_and_the_connections_price(self) -> None:
        other = context({-1: submission("task_2").to_json()})
        found = find_submission(other, OPERATOR, HOOK, "task_1", resolution="4K")
        assert found == Submission.unrecorded("task_1", price_per_image=Decimal("0.05"), resolution="4K")
        assert found.charged is None


class TestACallbackHasCome:
    RECORD = DeliveryRecord(
        digest=DIGEST, seedream_task_id="task_1", state="success", delivered_at=1.0
    ).to_json()

    def test_where_its_record_lies_with_the_upstream_task(self) -> None:
        assert has_callback_come(context({-1: self.RECORD}), OPERATOR, DIGEST)

    @pytest.mark.parametrize("recorded", [None, "x", {}, {"digest": DIGEST}, [1]])
    def test_not_where_something_else_does(self, recorded: Any) -> None:
        assert not has_callback_come(context({-1: recorded}), OPERATOR, DIGEST)

    def test_not_for_another_purchase(self) -> None:
        assert not has_callback_come(context({-1: self.RECORD}), OPERATOR, "e2" * 32)


class TestATaskThatWasPolledOnce:
    def test_is_concluded_when_it_delivered(self) -> None:
        status = TaskStatus("task_1", "success", ("https://results.example.com/1",))
        assert conclude_finished(submission(), status).delivered == 1

    def test_has_nothing_to_download_while_it_goes_on(self) -> None:
        with pytest.raises(NotFinishedError, match="processing"):
            conclude_finished(submission(), TaskStatus("task_1", "processing"))

    def test_stays_failed(self) -> None:
        with pytest.raises(TaskFailedError, match="Timeout"):
            conclude_finished(submission(), TaskStatus("task_1", "failed", fail_code="Timeout"))
