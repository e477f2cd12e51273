"""``docs/callbacks.md`` tells administrators what the code does, or they open the wrong thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.callback_endpoint.limits import EndpointLimits
from airflow_provider_seedream.callback_endpoint.retries import LONGEST_SECONDS
from airflow_provider_seedream.callback_endpoint.standing import Reason
from airflow_provider_seedream.callbacks.address import make_callback_url
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.provider_info import get_provider_info
from airflow_provider_seedream.settings import DEFAULT_MIN_DEFERRAL_SECONDS
from airflow_provider_seedream.urls import CALLBACK_PATH, TaskAddress
from airflow_provider_seedream.worker.waiting import CALLBACK_POLL_SECONDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "callbacks.md").read_text()
WORDS = " ".join(PAGE.split())
LIMITS = EndpointLimits()
FIRST_POLLS = [tier.pace.first_poll for tier in SEEDREAM_4_5.resolutions.values()]


@pytest.mark.parametrize(
    "phrase",
    [
        f"{LIMITS.body_bytes // 1024} KiB, within {LIMITS.body_seconds:.0f} s",
        f"{LIMITS.per_second:.0f} requests a second that reach the database and bring nothing new, "
        f"with bursts of {LIMITS.burst}",
        f"More than about {LIMITS.per_second:.0f} a second of these get 503",
        f"{LIMITS.bodies} bodies being read, {LIMITS.threads} calls of the database, {LIMITS.waiting} calls "
        f"waiting, {LIMITS.database_seconds:.0f} s for each, and {LIMITS.retry_threads} calls more",
        f"{LIMITS.retries:,} deliveries in the memory of each process, and a minute of tries",
        f"`[seedream] min_deferral_seconds` ({DEFAULT_MIN_DEFERRAL_SECONDS:.0f})",
        f"{FIRST_POLLS[0]:.0f} s after the submission with 2K, {FIRST_POLLS[1]:.0f} s with 4K), then every "
        f"{CALLBACK_POLL_SECONDS:.0f} s",
    ],
)
def test_the_limits_are_those_of_the_code(phrase: str) -> None:
    assert phrase in WORDS


def test_a_minute_is_what_a_delivery_waits_for_its_task() -> None:
    assert LONGEST_SECONDS == 60


def test_every_reason_of_the_metric_is_named() -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `seedream.callback.refusals`")]
    assert {*Reason, "body", "busy", "database"} == set(re.findall(r"`(\w+)`", row)) - {"reason"}


def test_the_setting_has_the_name_that_airflow_knows() -> None:
    assert "callback_base_url" in get_provider_info()["config"]["seedream"]["options"]
    assert "`[seedream] callback_base_url`, or `AIRFLOW__SEEDREAM__CALLBACK_BASE_URL`" in PAGE


class TestTheProxies:
    def blocks(self, language: str) -> str:
        (block,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        return str(block)

    def test_nginx_lets_the_path_of_the_endpoint_through(self) -> None:
        assert f"location {CALLBACK_PATH}/ {{" in self.blocks("nginx")

    def test_haproxy_lets_every_address_that_is_made_through_and_no_detour(self) -> None:
        found = re.search(r"path_reg (\S+)", self.blocks("haproxy"))
        assert found
        for _ in range(100):
            token = CallbackToken.for_purchase(TaskAddress("ä dag", "manual__2026-11-22T09:00:00+00:00", "t"))
            assert re.fullmatch(found[1], make_callback_url("", token))
        assert not re.fullmatch(found[1], f"{CALLBACK_PATH}/../../api/v2/dags")
