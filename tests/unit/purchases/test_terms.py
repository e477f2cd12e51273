"""A budget that was given is kept, whatever its template renders to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_seedream.errors import InvalidRequestError
from airflow_provider_seedream.purchases.terms import Terms


def test_without_a_budget_there_is_no_limit() -> None:
    assert Terms().limit is None


@pytest.mark.parametrize("given", [0.105, "0.105", " 0.105 "])
def test_a_budget_is_exact_as_a_number_and_as_text(given: Any) -> None:
    assert Terms(has_budget=True, max_cost=given).limit == Decimal("0.105")


@pytest.mark.parametrize("rendered", [None, "", "None", "a lot", "0", "-1"])
def test_a_template_that_rendered_to_no_amount_is_not_no_limit(rendered: Any) -> None:
    with pytest.raises(InvalidRequestError, match="max_cost"):
        _ = Terms(has_budget=True, max_cost=rendered).limit
