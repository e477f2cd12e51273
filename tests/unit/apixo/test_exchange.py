"""What is sent, how an answer is read, and what is repeated: decided without any I/O."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_seedream.apixo import exchange
from airflow_provider_seedream.apixo.answers import (
    NoAnswer,
    Reply,
)
from airflow_provider_seedream.apixo.exchange import MAX_ATTEMPTS, Exchange, Send, Sleep, Timing
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    NotDeliveredError,
    PollFailedError,
    RefusedError,
    SeedreamError,
)
from tests.support.replies import envelope

NOW = 1_767_965_610.0
TIMING = Timing(now=lambda: NOW, uniform=lambda low, high: high)
REQUEST = GenerateRequest(prompt="a fox")
NEVER_DELIVERED = NoAnswer(delivered=False, detail="ConnectError: refused")
LOST = NoAnswer(delivered=True, detail="ReadTimeout")
GATEWAY_502 = Reply(502, {}, b"<html><h1>502 Bad Gateway</h1></html>")


ACCEPTED = envelope(data={"taskId": "t1"})


class Run:
    """Drives an exchange with prepared answers and remembers what it asked for."""

    def __init__(self, call: Exchange[Any], answers: Iterable[Reply | NoAnswer]) -> None:
        self.sent: list[Send] = []
        self.slept: list[float] = []
        self.result: Any = None
        self.error: SeedreamError | None = None
        left = iter(answers)
        answer: Reply | NoAnswer | None = None
        try:
            while True:
                step = call.send(answer)
                if isinstance(step, Sleep):
                    self.slept.append(step.seconds)
                    answer = None
                else:
                    self.sent.append(step)
                    answer = next(left)
        except StopIteration as stop:
            self.result = stop.value
        except SeedreamError as error:
            self.error = error


def submit(*answers: Reply | NoAnswer) -> Run:
    return Run(exchange.submit(REQUEST, timing=TIMING, report=lambda line: None), answers)


def status(*answers: Reply | NoAnswer) -> Run:
    return Run(exchange.fetch_status("t1", "seedream-4-5", timing=TIMING, report=lambda line: None), answers)


class TestASubmissionIsRepeatedOnlyWhereItBoughtNothing:
    @pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
    def test_after_a_refusal_in_the_apis_own_envelope(self, code: int) -> None:
        run = submit(envelope(code), envelope(code, status=200), ACCEPTED)
        assert (run.result, len(run.sent)) == ("t1", 3)

    def test_after_requests_that_never_arrived(self) -> None:
        assert submit(NEVER_DELIVERED, NEVER_DELIVERED, ACCEPTED).result == "t1"

    def test_not_for_ever(self) -> None:
        run = submit(*[NEVER_DELIVERED] * 10)
        assert len(run.sent) == MAX_ATTEMPTS
        assert isinstance(run.error, NotDeliveredError)

    @pytest.mark.parametrize(
        "answer",
        [
            LOST,
            GATEWAY_502,
            Reply(500, {}, b""),
            Reply(504, {}, b'{"detail": "gateway"}'),
            Reply(408, {}, b""),
            Reply(200, {}, b""),
            Reply(200, {}, b"<html>"),
            Reply(200, {}, b"\xff\xfe"),
            Reply(200, {}, b"[" * 100_000),
            Reply(200, {}, b"null"),
            envelope(data={}),
            envelope(data=None),
            envelope(data={"taskId": None}),
            envelope(data={"taskId": 7}),
            envelope(code=0, status=200),
            envelope(code=200, status=502),
        ],
    )
    def test_never_when_it_may_have_been_accepted(self, answer: Reply | NoAnswer) -> None:
        run = submit(answer, ACCEPTED)
        assert isinstance(run.error, AmbiguousSubmitError)
        assert len(run.sent) == 1
        assert "may have accepted and charged" in str(run.error)

    @pytest.mark.parametrize("code", [400, 401, 402, 403, 404])
    @pytest.mark.parametrize("http_status", [None, 200])
    def test_never_when_the_same_request_would_be_refused_again(
        self, code: int, http_status: int | None
    ) -> None:
        run = submit(envelope(code, status=http_status), ACCEPTED)
        assert isinstance(run.error, RefusedError)
        assert (run.error.code, run.error.retryable, len(run.sent)) == (code, False, 1)
        assert "nothing was charged" in str(run.error)

    def test_a_redirect_is_not_followed(self) -> None:
        run = submit(Reply(307, {"location": "https://evil.example"}, b""), ACCEPTED)
        assert isinstance(run.error, RefusedError)
        assert len(run.sent) == 1

    def test_the_same_request_is_sent_each_time(self) -> None:
        run = submit(NEVER_DELIVERED, ACCEPTED)
        assert run.sent[0] == run.sent[1] == Send("POST", "/generateTask/seedream-4-5", REQUEST.body)


class TestPauses:
    def test_grow_with_full_jitter(self) -> None:
        assert submit(*[NEVER_DELIVERED] * 4).slept == [2, 4, 8]

    def test_retry_after_in_seconds_and_as_a_date(self) -> None:
        date = formatdate(NOW + 30, usegmt=True)
        run = submit(envelope(429, **{"retry-after": "7"}), envelope(429, **{"retry-after": date}), ACCEPTED)
        assert run.slept == [7 + 1, 30 + 1]

    def test_an_answer_that_asks_for_too_much_is_left_to_airflows_retry(self) -> None:
        run = submit(envelope(429, **{"retry-after": "3600"}))
        assert isinstance(run.error, RefusedError)
        assert (run.error.retry_after, run.slept) == (3600, [])


class TestPolls:
    @pytest.mark.parametrize(
        "answer", [LOST, NEVER_DELIVERED, envelope(429), envelope(500), GATEWAY_502, Reply(503, {}, b"")]
    )
    def test_are_repeated_after_what_may_pass(self, answer: Reply | NoAnswer) -> None:
        run = status(answer, envelope(data={"state": "pending"}))
        assert run.result == TaskStatus("t1", "pending")

    @pytest.mark.parametrize("code", [400, 401, 403, 404])
    def test_are_not_repeated_after_a_mistake(self, code: int) -> None:
        run = status(envelope(code))
        assert isinstance(run.error, PollFailedError)
        assert (run.error.code, len(run.sent)) == (code, 1)

    def test_the_task_id_is_quoted(self) -> None:
        call = exchange.fetch_status("a/b?c&d", "m/x", timing=TIMING, report=lambda line: None)
        assert next(call) == Send("GET", "/statusTask/m%2Fx?taskId=a%2Fb%3Fc%26d")
