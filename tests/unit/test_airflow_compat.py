"""Airflow's versions are told apart rightly, and in one module."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from airflow_provider_seedream import airflow_compat
from airflow_provider_seedream.airflow_compat import (
    find_start_of_try,
    find_task_state_store,
    has_task_state_store,
    import_task_state_model,
    is_at_least,
    make_task_scope,
    needs_connection_test_fix,
)
from airflow_provider_seedream.urls import TaskAddress


class TestTheVersion:
    @pytest.mark.parametrize(
        ("version", "told"),
        [
            ("3.1.8", False),
            ("3.2.10", False),
            ("3.3.0", True),
            ("3.3.0rc1", True),
            ("3.4.0.dev0", True),
            ("3.10.0", True),
            ("4.0.0", True),
        ],
    )
    def test_is_compared_by_number_and_pre_releases_count(
        self, monkeypatch: pytest.MonkeyPatch, version: str, told: bool
    ) -> None:
        monkeypatch.setattr(airflow_compat, "AIRFLOW_VERSION", version)
        assert is_at_least(3, 3) is told
        assert has_task_state_store() is told

    @pytest.mark.parametrize(
        ("version", "broken"), [("3.3.0", False), ("3.3.1", True), ("3.3.2", True), ("3.3.3", False)]
    )
    def test_decides_whether_the_test_button_needs_the_fix(
        self, monkeypatch: pytest.MonkeyPatch, version: str, broken: bool
    ) -> None:
        monkeypatch.setattr(airflow_compat, "AIRFLOW_VERSION", version)
        assert needs_connection_test_fix() is broken


class TestTheTaskStateStore:
    def test_is_that_of_the_context_and_none_before_3_3(self) -> None:
        store = object()
        assert find_task_state_store({"task_state_store": store}) is store
        assert find_task_state_store({}) is None

    def test_of_the_api_server_is_what_a_version_that_has_one_provides(self) -> None:
        if not has_task_state_store():
            pytest.skip("this Airflow has none")
        address = TaskAddress("dag", "run", "task", 3)
        scope = make_task_scope(address)
        assert (scope.dag_id, scope.run_id, scope.task_id, scope.map_index) == ("dag", "run", "task", 3)
        assert {"dag_id", "run_id", "task_id", "map_index", "key"} <= set(
            import_task_state_model().__table__.columns.keys()
        )


class TestTheStartOfATry:
    def test_is_that_of_the_task_instance(self) -> None:
        started = datetime(2026, 11, 22, 9, 41, 10, tzinfo=UTC)
        assert find_start_of_try(SimpleNamespace(start_date=started)) == 1795340470

    @pytest.mark.parametrize("ti", [SimpleNamespace(), SimpleNamespace(start_date=None)])
    def test_is_none_where_airflow_does_not_tell(self, ti: object) -> None:
        assert find_start_of_try(ti) is None


class TestARetryPolicyBefore33:
    def test_says_which_airflow_it_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow.providers.common.compat.sdk", SimpleNamespace())  # type: ignore[arg-type]
        monkeypatch.delitem(sys.modules, "airflow_provider_seedream.retry_policy", raising=False)
        with pytest.raises(ImportError, match=r"SeedreamRetryPolicy needs Airflow 3\.3 or later"):
            importlib.import_module("airflow_provider_seedream.retry_policy")
