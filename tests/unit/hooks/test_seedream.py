"""The hook over real HTTP: every call in both flavours, and every fault that a network can have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pendulum
import pytest

from airflow_provider_seedream.apixo.exchange import Timing
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    DeadlineError,
    NotDeliveredError,
    PollFailedError,
    RefusedError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from tests.support.apixo import KEY, Apixo, Connect
from tests.support.raw_servers import closed_port, raw_server

REQUEST = GenerateRequest(prompt="a fox", max_images=2)


class BothFlavours:
    """Calls a hook's method, or its ``_async`` twin on an event loop."""

    def __init__(self, flavour: str) -> None:
        self.hook = SeedreamHook()
        self.hook._timing = Timing(uniform=lambda low, high: 0.0)
        self._async = flavour == "async"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not self._async:
            return getattr(self.hook, name)  # type: ignore[no-any-return]
        method: Callable[..., Awaitable[Any]] = getattr(self.hook, f"{name}_async")
        return lambda *args, **kwargs: asyncio.run(self._finished(method(*args, **kwargs)))

    @staticmethod
    async def _finished(awaitable: Awaitable[Any]) -> Any:
        return await awaitable


@pytest.fixture(params=["sync", "async"])
def hook(request: pytest.FixtureRequest, connected: Apixo) -> BothFlavours:
    return BothFlavours(request.param)


class TestTheCalls:
    def test_submit_wait_and_poll(self, hook: BothFlavours, connected: Apixo) -> None:
        task_id = hook.submit(REQUEST)
        finished = hook.wait(task_id)
        assert len(finished.urls) == 2
        assert hook.get_status(task_id) == finished
        (task,) = connected.tasks()
        assert (task["taskId"], task["charged"], task["refunded"]) == (task_id, 0.07, 0)

    def test_balance(self, hook: BothFlavours) -> None:
        assert hook.get_balance() == Decimal(100)

    def test_a_failed_task_says_why_and_that_it_is_refunded(self, hook: BothFlavours) -> None:
        task_id = hook.submit(GenerateRequest(prompt="x [[fail:SensitiveContentDetected]]"))
        with pytest.raises(
            TaskFailedError, match=r"SensitiveContentDetected.*refunds.*Change the prompt"
        ) as caught:
            hook.wait(task_id)
        assert not caught.value.retryable

    def test_a_wait_ends_at_its_timeout(self, hook: BothFlavours) -> None:
        task_id = hook.submit(GenerateRequest(prompt="x [[seconds:90000]]"))
        with pytest.raises(DeadlineError, match=f"{task_id}.*cannot be cancelled"):
            hook.wait(task_id, timeout=0.2)

    @pytest.mark.parametrize("timeout", [timedelta(seconds=0.2), pendulum.duration(seconds=0.2)])
    def test_a_timeout_may_be_a_timedelta(self, hook: BothFlavours, timeout: timedelta) -> None:
        task_id = hook.submit(GenerateRequest(prompt="x [[seconds:90000]]"))
        started = time.monotonic()
        with pytest.raises(DeadlineError, match=f"{task_id}.*cannot be cancelled"):
            hook.wait(task_id, timeout=timeout)
        assert time.monotonic() - started >= 0.15

    def test_a_state_of_another_page_is_in_progress(
        self, hook: BothFlavours, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task_id = hook.submit(REQUEST)
        connected.fault("/statusTask", status=200, body={"code": 200, "data": {"state": "processing_r2"}})
        assert hook.wait(task_id).succeeded
        assert f"Task {task_id}: state processing_r2" in capsys.readouterr().out

    def test_an_unknown_task(self, hook: BothFlavours) -> None:
        with pytest.raises(PollFailedError, match="404.*Check the base URL, the model and the taskId"):
            hook.get_status("nobody")


class TestRefusals:
    def test_a_wrong_key(self, hook: BothFlavours, connected: Apixo, connect: Connect) -> None:
        connect(host=connected.base_url, password="invalid")
        with pytest.raises(RefusedError, match="401.*nothing was charged|nothing was charged.*401") as caught:
            hook.submit(REQUEST)
        assert not caught.value.retryable
        assert "invalid'" not in str(caught.value)

    def test_too_little_balance_in_an_http_200(self, hook: BothFlavours, connected: Apixo) -> None:
        body = {"code": 402, "message": "Insufficient balance", "data": None}
        connected.fault("/generateTask", status=200, body=body)
        with pytest.raises(RefusedError, match="Add balance"):
            hook.submit(REQUEST)
        assert connected.tasks() == []

    def test_a_loopback_reference_for_the_real_api_is_refused_before_it_is_sent(
        self, connect: Connect
    ) -> None:
        connect(host="https://api.apixo.invalid/api/v1")
        request = GenerateRequest(prompt="a", image_urls=["http://127.0.0.1:1/a.png"])
        with pytest.raises(ValueError, match=r"image_urls\[0\]"):
            SeedreamHook().submit(request)


class TestNoMoneyIsSpentTwice:
    def test_a_submission_whose_answer_is_lost_is_not_sent_again(
        self, hook: BothFlavours, connected: Apixo
    ) -> None:
        connected.fault("/generateTask", drop="after")
        with pytest.raises(AmbiguousSubmitError, match="may have accepted and charged"):
            hook.submit(REQUEST)
        assert len(connected.tasks()) == 1

    def test_nor_one_that_a_gateway_answers(self, hook: BothFlavours, connected: Apixo) -> None:
        connected.fault("/generateTask", status=502, body="<html>Bad Gateway</html>")
        with pytest.raises(AmbiguousSubmitError, match="502"):
            hook.submit(REQUEST)
        assert len(connected.requests("/generateTask")) == 1

    def test_nor_one_whose_answer_is_cut_short(self, hook: BothFlavours, connected: Apixo) -> None:
        connected.fault("/generateTask", truncate=10)
        with pytest.raises(AmbiguousSubmitError):
            hook.submit(REQUEST)
        assert len(connected.tasks()) == 1

    def test_nor_one_that_is_answered_too_late(
        self, hook: BothFlavours, connected: Apixo, connect: Connect
    ) -> None:
        connect(host=connected.base_url, extra={"request_timeout": 0.2})
        connected.fault("/generateTask", delay=2)
        with pytest.raises(AmbiguousSubmitError):
            hook.submit(REQUEST)
        assert len(connected.requests("/generateTask")) <= 1

    def test_one_that_apixo_itself_refused_is_repeated(self, hook: BothFlavours, connected: Apixo) -> None:
        body = {"code": 503, "message": "busy", "data": None}
        connected.fault("/generateTask", times=2, status=503, body=body)
        hook.submit(REQUEST)
        assert len(connected.tasks()) == 1

    def test_one_that_never_arrived_is_repeated(self, hook: BothFlavours, connect: Connect) -> None:
        with closed_port() as port:
            connect(host=f"http://127.0.0.1:{port}/api/v1")
            with pytest.raises(NotDeliveredError, match="nothing was charged"):
                hook.submit(REQUEST)

    def test_a_name_that_does_not_exist_was_never_reached(self, hook: BothFlavours, connect: Connect) -> None:
        connect(host="https://api.apixo.invalid/api/v1")
        with pytest.raises(NotDeliveredError):
            hook.submit(REQUEST)

    def test_a_broken_tls_handshake_was_never_delivered(self, hook: BothFlavours, connect: Connect) -> None:
        with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (port, _):
            connect(host=f"https://127.0.0.1:{port}/api/v1")
            with pytest.raises(NotDeliveredError):
                hook.submit(REQUEST)


class TestPollsSurvive:
    @pytest.mark.parametrize(
        "fault",
        [
            {"status": 429, "headers": {"Retry-After": "0"}, "body": {"code": 429}},
            {"status": 500, "body": {"code": 500, "message": "oops", "data": None}},
            {"status": 502, "body": "<html>"},
            {"drop": "before"},
            {"drop": "after"},
            {"truncate": 5},
        ],
    )
    def test_what_a_network_does(self, hook: BothFlavours, connected: Apixo, fault: dict[str, Any]) -> None:
        task_id = hook.submit(REQUEST)
        connected.fault("/statusTask", times=2, **fault)
        assert hook.get_status(task_id).task_id == task_id

    def test_but_not_an_answer_without_end(self, hook: BothFlavours, connect: Connect) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (2 * 1024 * 1024)
        with raw_server(answer) as (port, _):
            connect(host=f"http://127.0.0.1:{port}/api/v1")
            with pytest.raises(PollFailedError, match="larger than 1048576 bytes"):
                hook.get_status("t1")


class TestTheKeyStaysHome:
    def test_a_redirect_does_not_take_it_along(self, hook: BothFlavours, connected: Apixo) -> None:
        with raw_server(b"") as (port, received):
            location = f"http://127.0.0.1:{port}/steal"
            connected.fault("/apikeys", times=9, status=307, headers={"Location": location}, body="")
            with pytest.raises(RefusedError):
                hook.get_balance()
        assert received == []

    def test_it_is_in_no_error_and_no_log(
        self, hook: BothFlavours, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connected.fault(
            "/generateTask", times=9, status=503, body={"code": 503, "message": KEY[:3], "data": None}
        )
        with pytest.raises(RefusedError) as caught:
            hook.submit(REQUEST)
        log = capsys.readouterr().out
        assert "Attempt 1 of 4 failed" in log
        assert KEY not in log + str(caught.value)

    def test_the_api_learns_who_calls(self, hook: BothFlavours, connected: Apixo) -> None:
        hook.get_balance()
        (request,) = connected.requests("/apikeys")
        assert {"authorization", "user-agent"} <= set(request["headers"])


class TestConnectionTest:
    def test_a_valid_key_shows_the_balance_and_costs_nothing(self, connected: Apixo) -> None:
        assert SeedreamHook().test_connection() == (True, "Valid key, 100.00 USD left.")
        assert connected.tasks() == []

    def test_a_wrong_key_is_named(self, connected: Apixo, connect: Connect) -> None:
        connect(host=connected.base_url, password="invalid")
        ok, message = SeedreamHook().test_connection()
        assert not ok
        assert "The API key is not valid" in message

    def test_a_missing_connection_is_no_crash(self) -> None:
        assert SeedreamHook("nobody").test_connection()[0] is False

    def test_a_fault_of_the_connection_is_told_without_the_id_of_airflows_copy(
        self, connect: Connect
    ) -> None:
        connect(password="")
        ok, message = SeedreamHook().test_connection()
        assert not ok
        assert message == "It has no API key. Put your APIXO API key into its password field."


# --- small servers that misbehave ---------------------------------------------------------------------


class TestAServerThatEchoesTheKey:
    @pytest.mark.parametrize("key", ["sk-echo/4f1d", 'sk-"quoted"-4f1d'])
    def test_does_not_get_it_into_an_error(self, connected: Apixo, connect: Connect, key: str) -> None:
        connect(host=connected.base_url, password=key)
        for path in ("/generateTask", "/statusTask", "/apikeys"):
            echo = {"code": 401, "message": f"Bad key {key}", "data": {"error": f"Bearer {key}"}}
            connected.fault(path, times=9, status=401, body=echo)
        for call in (
            lambda: SeedreamHook().submit(GenerateRequest(prompt="a fox")),
            lambda: SeedreamHook().get_status("t"),
            lambda: SeedreamHook().get_balance(),
        ):
            with pytest.raises(SeedreamError) as failure:
                call()
            assert key not in str(failure.value)
            assert "Bad key ***" in str(failure.value)
