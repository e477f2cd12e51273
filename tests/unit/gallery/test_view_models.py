"""What the gallery's pages show, as values."""

from __future__ import annotations

import pendulum
import pytest

from airflow_provider_seedream.gallery.view_models import Filters


class TestFilters:
    def test_that_choose_nothing_are_none(self) -> None:
        assert not Filters()

    @pytest.mark.parametrize(
        "filters",
        [
            Filters(dag_id="art"),
            Filters(text="fox"),
            Filters(since=pendulum.date(2026, 3, 1)),
            Filters(until=pendulum.date(2026, 3, 1)),
        ],
    )
    def test_that_choose_anything_may_be_cleared(self, filters: Filters) -> None:
        assert filters
