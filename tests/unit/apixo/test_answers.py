"""An answer is read into what it says, or into one documented error that says what it cost."""

from __future__ import annotations

import json
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_seedream.apixo.answers import (
    Reply,
    read_balance,
    read_retry_after,
    read_status,
    read_submission,
)
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    Kind,
    PollFailedError,
    RefusedError,
    SeedreamError,
)
from tests.support.replies import envelope

NOW = 1_767_965_610.0


class TestARefusal:
    def test_says_the_vendors_words_and_the_remedy(self) -> None:
        data = {"error": "Missing required field: input.prompt"}
        error = read_submission(envelope(400, data, "Invalid request"), NOW)
        assert "Missing required field: input.prompt" in str(error)
        assert "Fix the request" in str(error)

    def test_means_what_a_fail_code_in_the_body_means(self) -> None:
        error = read_submission(envelope(403, {"failCode": "SensitiveContentDetected"}), NOW)
        assert isinstance(error, RefusedError)
        assert error.cause.kind is Kind.CONTENT

    def test_with_a_foreign_body_describes_it_and_does_not_dump_it(self) -> None:
        error = read_submission(Reply(403, {}, b"<html>" + b"x" * 100_000), NOW)
        assert len(str(error)) < 600

    def test_that_names_a_task_all_the_same_may_have_bought_it(self) -> None:
        error = read_submission(envelope(500, {"taskId": "t1"}), NOW)
        assert isinstance(error, AmbiguousSubmitError)
        assert error.seedream_task_id == "t1"


class TestAStrayRefusalOfAGateway:
    @pytest.mark.parametrize("code", [400, 403, 404])
    def test_says_nothing_about_a_paid_task(self, code: int) -> None:
        error = read_status(Reply(code, {}, b"<html>WAF</html>"), "t1", NOW)
        assert isinstance(error, PollFailedError)
        assert error.retryable

    @pytest.mark.parametrize("code", [401, 402])
    def test_unless_it_is_about_the_key_or_the_money(self, code: int) -> None:
        error = read_status(Reply(code, {}, b"<html>"), "t1", NOW)
        assert isinstance(error, PollFailedError)
        assert not error.retryable


class TestRetryAfter:
    @pytest.mark.parametrize("header", [None, "", "soon", "-5", "1e9", "٣", "Wed, 99 Foo"])
    def test_an_unreadable_one_is_ignored(self, header: str | None) -> None:
        assert read_retry_after(header, NOW) is None

    def test_a_date_in_the_past_means_now(self) -> None:
        assert read_retry_after(formatdate(NOW - 60, usegmt=True), NOW) == 0


class TestBalance:
    @pytest.mark.parametrize(
        ("data", "amount"), [(74.87, "74.87"), ("74.8700", "74.8700"), (0, "0"), (-1.5, "-1.5")]
    )
    def test_is_exact(self, data: Any, amount: str) -> None:
        assert read_balance(envelope(data=data), NOW) == Decimal(amount)

    @pytest.mark.parametrize("data", [None, True, "much", "NaN", "Infinity", {"balance": 1}, [1]])
    def test_anything_else_is_refused(self, data: Any) -> None:
        assert isinstance(read_balance(envelope(data=data), NOW), RefusedError)


class TestHostileAnswers:
    """Whatever comes back, there is a result or a documented error."""

    @given(status=st.integers(100, 599), body=st.binary(max_size=200))
    def test_any_bytes(self, status: int, body: bytes) -> None:
        self.check(Reply(status, {}, body))

    @given(
        status=st.sampled_from([200, 400, 429, 500]),
        body=st.fixed_dictionaries(
            {},
            optional={
                "code": st.sampled_from([200, 400, 402, 500, 0, -1, None, "200", 10**30]),
                "message": st.none() | st.text(max_size=5) | st.integers(),
                "data": st.none()
                | st.floats()
                | st.text(max_size=5)
                | st.dictionaries(
                    st.sampled_from(["taskId", "state", "resultJson", "failCode", "failMsg", "error"]),
                    st.none() | st.text(max_size=5) | st.integers() | st.lists(st.none(), max_size=2),
                ),
            },
        ),
    )
    def test_any_envelope(self, status: int, body: dict[str, Any]) -> None:
        self.check(Reply(status, {}, json.dumps(body).encode()))

    def check(self, reply: Reply) -> None:
        assert isinstance(read_submission(reply, NOW), str | SeedreamError)
        assert isinstance(read_status(reply, "t1", NOW), TaskStatus | SeedreamError)
        assert isinstance(read_balance(reply, NOW), Decimal | SeedreamError)
