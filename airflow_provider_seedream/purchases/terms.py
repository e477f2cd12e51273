"""Carries the terms on which an Airflow task buys: budget, lost answers, retries, and whom APIXO calls."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_seedream.parameters import read_money


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The parameters of an operator that are about a purchase.

    :param durable: whether a retry finds what was bought.
    :param on_ambiguous_submit: ``fail`` or ``resubmit``, where a charge may have happened.
    :param has_budget: whether ``max_cost`` was given, whatever it rendered to.
    :param max_cost: USD that the Airflow task may spend in all its tries, as a number or text.
    :param check_balance: whether the key's balance must cover a submission before it is sent.
    :param retryable_codes: normalized failCodes that a retry may help; ``None`` leaves it to the tables.
    :param calls_airflow: whether APIXO calls Airflow's api-server when a purchase has ended.
    :param callback_url: the user's own URL that it calls instead.
    """

    durable: bool = True
    on_ambiguous_submit: str = "fail"
    has_budget: bool = False
    max_cost: float | str | None = None
    check_balance: bool = False
    retryable_codes: frozenset[str] | None = None
    calls_airflow: bool = False
    callback_url: str | None = None

    @property
    def limit(self) -> Decimal | None:
        """``max_cost`` in USD; ``None`` is no limit.

        :raises InvalidRequestError: a template rendered to no amount, which must not become no limit.
        """
        return (
            read_money("max_cost", "" if self.max_cost is None else self.max_cost)
            if self.has_budget
            else None
        )
