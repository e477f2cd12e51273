"""Records what one Airflow task has bought across its tries, and decides what its next try does with that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from hmac import compare_digest
from typing import Any

from airflow_provider_seedream.apixo.records import Submission

SCHEMA = 1
"""Grows when a field changes its meaning; a field that is only added leaves it as it is."""

UNKNOWN_REQUEST = ""
"""Fingerprint of a journal that was put together from other records; taken for that of any request."""

_UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A submission that is about to be sent, or whose answer is not known.

    :param fingerprint: of the request.
    :param at: epoch seconds.
    :param charge: USD that APIXO charges if it accepts.
    :param balance: USD on the key just before, where it could be read.
    :param callback_digest: of the nonce in the callback address that it carries, where Airflow is called.
    """

    fingerprint: str
    at: float
    charge: Decimal
    balance: Decimal | None = None
    callback_digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; money as text, which keeps every digit."""
        balance = None if self.balance is None else str(self.balance)
        return {
            "fingerprint": self.fingerprint,
            "at": self.at,
            "charge_usd": str(self.charge),
            "balance_usd": balance,
            "callback_digest": self.callback_digest,
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
            callback_digest=value.get("callback_digest"),
        )


class NextAction(Enum):
    """The first thing that a try does."""

    BUY = "buy"
    CARRY_ON = "carry on"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The purchases of one Airflow task, from its first try or its last clearing on.

    :param max_tries: Airflow's ``ti.max_tries`` at that time; a clear raises it, a retry does not
        (Airflow 3.3).
    :param fingerprint: of the request that the whole task is about, the connection's routing apart.
    :param purchases: what APIXO accepted: first the request itself, then its top-ups.
    :param intent: the submission whose answer is not known.
    :param lost: USD that earlier submissions may have cost whose answers were lost.
    :param spent: USD that earlier purchases may have cost which are no longer followed.
    """

    max_tries: int
    fingerprint: str
    purchases: tuple[Submission, ...] = ()
    intent: Intent | None = None
    lost: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)

    # --- what happens to it --------------------------------------------------------------------------

    def intending(self, intent: Intent) -> Journal:
        """Before a submission is sent."""
        return replace(self, intent=intent)

    def record(self, submission: Submission) -> Journal:
        """After APIXO accepted what was intended."""
        # The content of a top-up is that of the request; it is kept once.
        record = replace(submission, request=None) if self.purchases else submission
        return replace(self, intent=None, purchases=(*self.purchases, record))

    def withdrawn(self) -> Journal:
        """After it is certain that what was intended was not bought."""
        return replace(self, intent=None)

    def written_off(self) -> Journal:
        """After it was decided to buy again what was intended, although it may have been charged."""
        return replace(self, intent=None, lost=self.lost + (self.intent.charge if self.intent else 0))

    def without(self, task_ids: Collection[str], *, refunded: bool) -> Journal:
        """Without purchases that APIXO failed, and refunded, or that are no longer followed."""
        kept = tuple(one for one in self.purchases if one.seedream_task_id not in task_ids)
        dropped = _sum_charges(one for one in self.purchases if one.seedream_task_id in task_ids)
        return replace(self, purchases=kept, spent=self.spent + (0 if refunded else dropped))

    def with_purchases(self, found: Iterable[Submission]) -> Journal:
        """With purchases that were not recorded; one of them is what was intended."""
        merged = {one.seedream_task_id: one for one in self.purchases}
        for one in found:
            merged.setdefault(one.seedream_task_id, one)
        if len(merged) == len(self.purchases):
            return self
        return replace(self, purchases=tuple(merged.values()), intent=None)

    def for_request(self, fingerprint: str, cost: Decimal) -> Journal:
        """For another request of the same Airflow task; what was spent stays spent.

        :param cost: USD that the purchases so far cost.
        """
        spent = self.spent + cost
        return replace(self.written_off(), fingerprint=fingerprint, purchases=(), spent=spent)

    # --- what it decides -----------------------------------------------------------------------------

    def expects_callback(self, digest: str) -> bool:
        """Tell whether a submission of this journal carries an address with this digest.

        Each is compared in constant time.
        """
        expected = [
            one.callback_digest for one in (self.intent, *self.purchases) if one and one.callback_digest
        ]
        return any(compare_digest(digest, one) for one in expected)

    def purchase_with_callback(self, digest: str) -> Submission | None:
        """The accepted submission whose address has this digest; ``None`` while it is not recorded."""
        return next((one for one in self.purchases if one.callback_digest == digest), None)

    @property
    def summary(self) -> str:
        """The purchases, for the log."""
        ids = ", ".join(one.seedream_task_id for one in self.purchases) or "nothing"
        lost = f"; {self.intent.charge} USD for a submission without an answer" if self.intent else ""
        return f"{ids}{lost}"

    def next_action(self, fingerprint: str) -> NextAction:
        """Return what a try that is about this request does first.

        An open intent of a top-up does not keep the try from carrying on with what was bought before.
        """
        if self.fingerprint not in (fingerprint, UNKNOWN_REQUEST):
            return NextAction.BUY
        if self.purchases:
            return NextAction.CARRY_ON
        return NextAction.AMBIGUOUS if self.intent else NextAction.BUY

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
            "spent_usd": str(self.spent),
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
                spent=Decimal(value["spent_usd"]),
            )
        except _UNREADABLE as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


def is_cleared(record: Any, max_tries: int) -> bool:
    """Tell whether the user has cleared the Airflow task since a record was written, readable or not.

    A clear sets ``max_tries`` to the number of tries so far plus ``retries``, which is lower than before
    where ``retries`` was lowered meanwhile; nothing else changes it (Airflow 3.3.2).
    """
    recorded = record.get("max_tries") if isinstance(record, Mapping) else None
    return isinstance(recorded, int) and recorded != max_tries


def _sum_charges(purchases: Iterable[Submission]) -> Decimal:
    return sum((one.charged for one in purchases if one.charged is not None), Decimal(0))
