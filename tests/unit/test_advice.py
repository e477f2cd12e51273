"""The person on call is told what is charged and what a retry does, and never to pay twice unawares."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_seedream.advice import (
    advise,
    describe_free_finish,
    describe_task_left,
    describe_wait_ended,
)
from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    Cause,
    DeadlineError,
    InterruptedJobError,
    Kind,
    PollFailedError,
    RecordError,
    RefusedError,
    SeedreamError,
    TaskFailedError,
)

PRICE = Decimal("0.035")
BOUGHT = [Submission(seedream_task_id="t1", price_per_image=PRICE, requested=2)]
BUSY = Cause(Kind.TRANSIENT, "busy", "Wait.")
CONTENT = Cause(Kind.CONTENT, "flagged", "Change it.")
AT_NO_COST = (
    "SeedreamTaskSensor and SeedreamDownloadOperator with seedream_task_id='t1' finish the job at no cost."
)


def advise_text(
    error: SeedreamError,
    bought: list[Submission] | None = None,
    perhaps: Decimal | None = None,
    lasts: bool = True,
) -> str:
    return str(advise(error, bought or [], record_lasts=lasts, perhaps=perhaps))


class TestWhatIsCharged:
    def test_is_nothing_where_nothing_was_bought(self) -> None:
        assert advise_text(RefusedError(401, "no", CONTENT)).startswith("Charged: nothing by this try.")

    def test_is_at_most_the_pre_charge_of_what_was_bought(self) -> None:
        words = advise_text(
            DeadlineError("late"),
            [*BOUGHT, Submission(seedream_task_id="t2", price_per_image=PRICE, requested=1)],
        )
        assert "Charged: at most 0.105 USD for tasks t1, t2, less what APIXO refunds" in words

    def test_is_the_delivered_images_where_the_order_is_not_known(self) -> None:
        words = advise_text(DeadlineError("late"), [Submission(seedream_task_id="t1", price_per_image=PRICE)])
        assert "Charged: the delivered images for task t1" in words

    def test_is_nothing_for_a_task_that_failed(self) -> None:
        words = advise_text(TaskFailedError("no", CONTENT, fail_code="NSFW"), BOUGHT)
        assert words == "Charged: nothing for the task that failed. Retry: none, it could not help."

    def test_is_perhaps_something_where_an_answer_was_lost(self) -> None:
        words = advise_text(AmbiguousSubmitError("lost"), perhaps=Decimal("0.07"))
        assert words.startswith("Charged: perhaps 0.07 USD for a submission whose answer was lost.")


class TestWhatARetryDoes:
    @pytest.mark.parametrize("retryable", [True, False])
    def test_what_was_bought_can_always_be_collected_and_a_clear_buys_anew(self, retryable: bool) -> None:
        words = advise_text(PollFailedError("no", BUSY if retryable else CONTENT), BOUGHT)
        assert words.endswith(f"Clearing this Airflow task buys anew; {AT_NO_COST}")
        assert ("Retry: carries on with what was bought for this request" in words) is retryable

    @pytest.mark.parametrize(
        ("error", "perhaps", "words"),
        [
            (RefusedError(503, "no", BUSY), None, "submits anew."),
            (RefusedError(401, "no", CONTENT), None, "none, it could not help."),
            (RecordError("no", "Wait.", retryable=True), None, "reads the record again"),
            (AmbiguousSubmitError("lost"), Decimal("0.07"), "none, it might pay twice"),
            (PollFailedError("no", BUSY), Decimal("0.07"), "polls the task that a callback has named."),
            (InterruptedJobError("SIGTERM"), Decimal("0.07"), "finds a submission without an answer"),
        ],
    )
    def test_follows_from_what_happened(
        self, error: SeedreamError, perhaps: Decimal | None, words: str
    ) -> None:
        assert f"Retry: {words}" in advise_text(error, perhaps=perhaps)

    def test_after_a_lost_answer_is_what_the_user_chose_or_a_callback_may_tell(self) -> None:
        error = AmbiguousSubmitError("lost")
        error.retry_helps = True
        assert "Retry: submits again, since on_ambiguous_submit is 'resubmit'." in advise_text(error)
        error.callback_may_tell = True
        assert "Retry: buys nothing: it carries on if a callback has told" in advise_text(error)

    def test_is_none_where_it_would_buy_again_for_want_of_a_record(self) -> None:
        error = DeadlineError("late")
        error.retry_helps = False
        assert "no record of the purchase outlasts this try" in advise_text(error, BOUGHT, lasts=False)


class TestATaskThatNobodyWaitsFor:
    def test_is_billed_when_it_delivers_and_can_be_collected(self) -> None:
        assert describe_task_left("t1", TaskStatus("t1", "processing"), "") == (
            "Task t1 is in state processing. APIXO tasks cannot be cancelled: "
            f"it will still be billed when it delivers. {AT_NO_COST}"
        )

    def test_that_has_delivered_is_billed(self) -> None:
        status = TaskStatus("t1", "success", urls=("u", "v"))
        assert describe_task_left("t1", status, "").startswith(
            "Task t1 has delivered 2 image(s), which are billed."
        )

    def test_that_has_failed_is_refunded(self) -> None:
        status = TaskStatus("t1", "failed")
        assert describe_task_left("t1", status, "") == "Task t1 has failed; APIXO refunds its pre-charge."

    def test_that_could_not_be_polled_is_told_with_the_reason(self) -> None:
        assert "in a state that could not be read (HTTP 500)." in describe_task_left("t1", None, "HTTP 500")

    def test_may_go_on_after_a_callback(self) -> None:
        assert "task t1 goes on at APIXO" in describe_wait_ended("t1")
        assert describe_wait_ended("t1").endswith(AT_NO_COST)

    def test_several_are_named_in_one_sentence(self) -> None:
        assert "with seedream_task_id='t1' and seedream_task_id='t2' finish" in describe_free_finish(
            ["t1", "t2"]
        )
