"""Sums up what an Airflow task has spent, and refuses what its budget or the key's balance does not cover."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.errors import BalanceError, BudgetError
from airflow_provider_seedream.purchases.journal import Journal


def compute_cost(submission: Submission, verdicts: Mapping[str, Verdict]) -> Decimal:
    """Return the USD that a purchase costs; its pre-charge, as long as it has not ended.

    :param verdicts: of the purchases that have ended, by taskId.
    """
    verdict = verdicts.get(submission.seedream_task_id)
    if verdict and verdict.status and verdict.status.finished:
        return len(verdict.status.urls) * submission.price_per_image
    return submission.charged or Decimal(0)


def sum_costs(journal: Journal, verdicts: Mapping[str, Verdict]) -> Decimal:
    """Return the USD that the purchases cost that a journal still follows."""
    return sum((compute_cost(one, verdicts) for one in journal.purchases), Decimal(0))


def sum_spent(journal: Journal, verdicts: Mapping[str, Verdict]) -> Decimal:
    """Return the USD that a task has spent in all its tries, lost answers included."""
    return journal.lost + journal.spent + sum_costs(journal, verdicts)


def check_budget(charge: Decimal, spent: Decimal, limit: Decimal | None) -> None:
    """Refuse a submission that the budget does not cover.

    :param charge: USD of the submission's pre-charge.
    :param spent: USD that were spent before.
    :param limit: USD that may be spent in all; ``None`` is no limit.
    :raises BudgetError: it takes more.
    """
    if limit is not None and spent + charge > limit:
        raise BudgetError(spent + charge, limit, spent)


def check_balance(charge: Decimal, balance: Decimal) -> None:
    """Refuse a submission that the key's balance does not cover; both in USD.

    :raises BalanceError: it takes more.
    """
    if balance < charge:
        raise BalanceError(charge, balance)
