"""What the log and the metrics say of callbacks."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from sqlalchemy import exc

from airflow_provider_seedream import metrics
from airflow_provider_seedream.callback_endpoint.limits import Busy
from airflow_provider_seedream.callback_endpoint.reports import Reports
from airflow_provider_seedream.callback_endpoint.standing import ReceiveResult
from tests.unit.callback_endpoint.callback_site import (
    ACCEPTED,
    BODY,
    REFUSAL,
    Counted,
    FakeDeliveries,
    OpenSite,
    Site,
    changed,
    new_token,
    post,
)


class TestTheLog:
    def test_has_a_line_for_a_callback_that_nobody_can_forge(
        self, site: Site, deliveries: FakeDeliveries, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "airflow_provider_seedream")
        deliveries.token = new_token(run_id="r\nall is well", map_index=7)
        site.deliver(deliveries.token, changed(state="success"))
        (line,) = [line for line in caplog.messages if line.startswith("Callback for")]
        assert line == (
            "Callback for dag 'art', run 'r\\nall is well', task 'draw', map index 7: "
            "APIXO task 'task_1' is said to be 'success'; resumed"
        )

    @pytest.mark.parametrize(
        ("body", "result"),
        [(BODY, ReceiveResult(repeated=True)), (changed(state="processing"), ReceiveResult())],
        ids=["repeated", "not final"],
    )
    def test_is_not_filled_by_who_may_send_any_number(
        self,
        site: Site,
        deliveries: FakeDeliveries,
        caplog: pytest.LogCaptureFixture,
        body: bytes,
        result: ReceiveResult,
    ) -> None:
        caplog.set_level(logging.INFO, "airflow_provider_seedream")
        deliveries.result = result
        assert site.deliver(deliveries.token, body) == ACCEPTED
        assert not [line for line in caplog.messages if line.startswith("Callback for")]


class TestALineOnceAMinute:
    async def test_comes_again_after_it_and_for_each_kind_of_trouble(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        times = iter((0.0, 59.9, 60.0, 61.0, 61.0, 61.0))
        reports, token = Reports(clock=lambda: next(times)), new_token()
        for _ in range(4):
            reports.log_not_recorded(OSError("gone"), token)
        reports.log_not_resumed(OSError("gone"), token)
        reports.log_left_to_polling()
        kinds = [message.partition(" ")[0] for message in caplog.messages]
        assert kinds == ["Callbacks", "Callbacks", "Tasks", "Too"]


class TestTroubleWithTheDatabase:
    def test_is_logged_once_a_minute(
        self, site: Site, deliveries: FakeDeliveries, caplog: pytest.LogCaptureFixture
    ) -> None:
        deliveries.trouble = ConnectionError(f"the database\nis down for {deliveries.token.to_text()}")
        for _ in range(5):
            site.deliver(deliveries.token)
        (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert "ConnectionError" in record.getMessage()
        assert "\n" not in record.getMessage()
        assert record.exc_info is None

    def test_of_a_retry_does_not_say_that_anybody_repeats(
        self, site: Site, deliveries: FakeDeliveries, caplog: pytest.LogCaptureFixture
    ) -> None:
        deliveries.result = ReceiveResult(again_at=time.time())
        deliveries.resumes.extend([ConnectionError("the database is down"), ReceiveResult()])
        site.deliver(deliveries.token)
        assert deliveries.resumed.wait(30)
        (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        assert "cannot be resumed" in line
        assert "repeat" not in line

    def test_that_is_a_fault_of_ours_shows_once_where_it_is(
        self, site: Site, deliveries: FakeDeliveries, caplog: pytest.LogCaptureFixture
    ) -> None:
        cause = TypeError(f"no number: {deliveries.token.to_text()}\nall is well")
        cause.__cause__ = ValueError(deliveries.token.nonce)
        deliveries.trouble = cause
        for _ in range(3):
            site.deliver(deliveries.token)
        (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert "TypeError" in record.getMessage()
        assert "in _refuse_strangers" in record.getMessage()
        assert "all is well" not in record.getMessage()
        assert deliveries.token.nonce not in caplog.text

    @pytest.mark.parametrize(
        "trouble",
        [exc.OperationalError("SELECT", {}, Exception("gone")), exc.TimeoutError("pool"), Busy("x")],
    )
    def test_of_another_kind_shows_no_code(
        self, site: Site, deliveries: FakeDeliveries, caplog: pytest.LogCaptureFixture, trouble: Exception
    ) -> None:
        deliveries.trouble = trouble
        site.deliver(deliveries.token)
        assert [one.levelno for one in caplog.records if one.levelno >= logging.WARNING] == [logging.WARNING]
        assert "Traceback" not in caplog.text


class TestAFlood:
    def test_is_one_line_in_the_log(
        self,
        open_site: OpenSite,
        deliveries: FakeDeliveries,
        counted: Counted,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        reports = Reports(seconds=0.5)
        site = open_site(reports)
        for _ in range(12):
            site.send(post("junk"))
        site.deliver(deliveries.token, b"junk")
        while not (lines := refusals_in(caplog)) or total(lines) < 13:
            assert site.deliver(deliveries.token) == ACCEPTED
        assert len(lines) < 13
        assert "token" in lines[0]
        assert "body" in lines[-1]
        assert not any("junk" in line for line in lines)


def refusals_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about refusals."""
    return [line for line in caplog.messages if "callbacks were refused" in line]


def total(lines: list[str]) -> int:
    """The refusals that some lines speak of."""
    return sum(int(line.split()[0]) for line in lines)


class TestMetrics:
    @pytest.mark.parametrize(
        ("result", "outcome"),
        [
            (ReceiveResult(resumed=1), "resumed"),
            (ReceiveResult(resumed=2, repeated=True), "resumed"),
            (ReceiveResult(), "parked"),
            (ReceiveResult(repeated=True), "repeated"),
        ],
    )
    def test_say_what_became_of_a_callback(
        self, site: Site, deliveries: FakeDeliveries, counted: Counted, result: ReceiveResult, outcome: str
    ) -> None:
        deliveries.result = result
        site.deliver(deliveries.token)
        assert counted.get(timeout=30) == ("seedream.callback.deliveries", {"outcome": outcome})

    def test_say_that_a_delivery_was_not_recorded_since_nothing_has_ended(
        self, site: Site, deliveries: FakeDeliveries, counted: Counted
    ) -> None:
        deliveries.result = ReceiveResult()
        assert site.deliver(deliveries.token, changed(state="processing")) == ACCEPTED
        assert counted.get(timeout=30) == ("seedream.callback.deliveries", {"outcome": "unfinished"})

    def test_that_fail_cost_no_callback(
        self, site: Site, deliveries: FakeDeliveries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def incr(*args: Any, **options: Any) -> None:
            raise OSError("no such host")

        monkeypatch.setattr(metrics.Stats, "incr", incr)
        assert site.deliver(deliveries.token) == ACCEPTED
        assert site.deliver(new_token()) == REFUSAL
