"""What one Airflow task has bought across its tries, and what its next try does with that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any

from airflow_provider_seedream.apixo.records import Submission

SCHEMA = 1
"""Grows when a field changes its meaning; a field that is only added leaves it as it is."""

_UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A submission that is about to be sent, or whose answer is not known.

    :param fingerprint: of the request.
    :param at: epoch seconds.
    :param charge: USD that APIXO charges if it accepts.
    :param balance: USD on the key just before, where it could be read.
    """

    fingerprint: str
    at: float
    charge: Decimal
    balance: Decimal | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; money as text, which keeps every digit."""
        balance = None if self.balance is None else str(self.balance)
        return {
            "fingerprint": self.fingerprint,
            "at": self.at,
            "charge_usd": str(self.charge),
            "balance_usd": balance,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Intent:
        """The reverse of :meth:`to_json`."""
        balance = value["balance_usd"]
        return cls(
            fingerprint=value["fingerprint"],
            at=float(value["at"]),
            charge=Decimal(value["charge_usd"]),
            balance=None if balance is None else Decimal(balance),
        )


class NextStep(Enum):
    """What a try does first."""

    BUY = "buy"
    CARRY_ON = "carry on"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The purchases of one Airflow task, from its first try or its last clearing on.

    :param max_tries: Airflow's ``ti.max_tries`` at that time; a clear raises it, a retry does not
        (Airflow 3.3).
    :param fingerprint: of the request that the whole task is about.
    :param purchases: what APIXO accepted and has not failed: first the request itself, then its top-ups.
    :param intent: the submission whose answer is not known.
    :param lost: USD that earlier submissions may have cost whose answers were lost.
    """

    max_tries: int
    fingerprint: str
    purchases: tuple[Submission, ...] = ()
    intent: Intent | None = None
    lost: Decimal = Decimal(0)

    # --- what happens to it --------------------------------------------------------------------------

    def intending(self, intent: Intent) -> Journal:
        """Before a submission is sent."""
        return replace(self, intent=intent)

    def bought(self, submission: Submission) -> Journal:
        """After APIXO accepted what was intended."""
        # The content of a top-up is that of the request; it is kept once.
        record = replace(submission, request=None) if self.purchases else submission
        return replace(self, intent=None, purchases=(*self.purchases, record))

    def withdrawn(self) -> Journal:
        """After it is certain that what was intended was not bought."""
        return replace(self, intent=None)

    def written_off(self) -> Journal:
        """When what was intended is bought again, although it may have been charged."""
        return replace(self, intent=None, lost=self.lost + (self.intent.charge if self.intent else 0))

    def without(self, task_ids: Sequence[str]) -> Journal:
        """Without purchases that APIXO failed, and refunded, or does not know."""
        kept = tuple(one for one in self.purchases if one.seedream_task_id not in task_ids)
        return replace(self, purchases=kept)

    # --- what it decides -----------------------------------------------------------------------------

    def next_step(self, fingerprint: str) -> NextStep:
        """What a try that is about this request does first.

        An open intent of a top-up does not keep the try from carrying on with what was bought before.
        """
        if self.fingerprint != fingerprint:
            return NextStep.BUY
        if self.purchases:
            return NextStep.CARRY_ON
        return NextStep.AMBIGUOUS if self.intent else NextStep.BUY

    # --- as JSON -------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for Airflow's task state store."""
        return {
            "schema": SCHEMA,
            "max_tries": self.max_tries,
            "fingerprint": self.fingerprint,
            "purchases": [purchase.to_json() for purchase in self.purchases],
            "intent": self.intent.to_json() if self.intent else None,
            "lost_usd": str(self.lost),
        }

    @classmethod
    def from_json(cls, value: Any) -> Journal:
        """The reverse of :meth:`to_json`.

        :raises ValueError: it is no journal of this release; that is another thing than no journal.
        """
        try:
            if value["schema"] != SCHEMA:
                raise ValueError(f"its schema is {value['schema']!r}, this release knows {SCHEMA}")
            return cls(
                max_tries=int(value["max_tries"]),
                fingerprint=str(value["fingerprint"]),
                purchases=tuple(Submission.from_json(one) for one in value["purchases"]),
                intent=Intent.from_json(value["intent"]) if value["intent"] else None,
                lost=Decimal(value["lost_usd"]),
            )
        except _UNREADABLE as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


def is_cleared(record: Any, max_tries: int) -> bool:
    """Whether the user has cleared the Airflow task since a record was written, readable or not."""
    recorded = record.get("max_tries") if isinstance(record, Mapping) else None
    return isinstance(recorded, int) and recorded < max_tries
