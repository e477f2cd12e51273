"""The JSON-safe records that travel between steps: what was bought, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from airflow_provider_seedream.apixo.model import DEFAULT_MODEL, MODELS, Pace, Size
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.times import from_iso, to_iso

SUBMISSION_KEY = "submission"
"""XCom key of :meth:`Submission.to_json`, pushed as soon as the API has accepted the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was bought with one POST.

    :param seedream_task_id: the API's taskId.
    :param price_per_image: USD.
    :param resolution: decides the pace of looking.
    :param submitted_at: epoch seconds; ``None`` for a task that was submitted elsewhere.
    :param requested: number of images; ``None`` where it is not known.
    :param size: exact size of every image, or ``None`` where no ratio was asked for.
    :param request: the ``input`` object as sent; ``None`` where it is not known.
    :param provider: the routing as sent; ``None`` where it was left to the key, or is not known.
    :param callback_digest: of the nonce in the callback address that it carries, where Airflow is called.
    """

    seedream_task_id: str
    price_per_image: Decimal
    model: str = DEFAULT_MODEL
    resolution: str = "2K"
    submitted_at: float | None = None
    requested: int | None = None
    size: Size | None = None
    request: Mapping[str, Any] | None = None
    provider: str | None = None
    fingerprint: str | None = None
    callback_digest: str | None = None

    @classmethod
    def of(
        cls, request: GenerateRequest, seedream_task_id: str, *, price_per_image: Decimal, now: float
    ) -> Submission:
        """The record of a request that was accepted just now."""
        return cls(
            seedream_task_id=seedream_task_id,
            price_per_image=price_per_image,
            model=request.model,
            resolution=request.resolution,
            submitted_at=now,
            requested=request.max_images,
            size=request.expected_size,
            request=request.input,
            provider=request.provider,
            fingerprint=request.fingerprint,
        )

    @property
    def pace(self) -> Pace:
        """When to look for the result."""
        return MODELS[self.model].resolutions[self.resolution].pace

    @property
    def charged(self) -> Decimal | None:
        """The pre-charge in USD, where the number of images is known."""
        return None if self.requested is None else self.requested * self.price_per_image

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``created_at`` is ISO 8601, ``size`` is ``[width, height]``, money is USD.

        ``callback_digest`` is there only where Airflow is called.
        """
        return {
            "seedream_task_id": self.seedream_task_id,
            "model": self.model,
            "resolution": self.resolution,
            "created_at": to_iso(self.submitted_at),
            "requested": self.requested,
            "price_per_image_usd": float(self.price_per_image),
            "charged_usd": _usd(self.charged),
            "size": list(self.size) if self.size else None,
            "request": dict(self.request) if self.request is not None else None,
            "provider": self.provider,
            "fingerprint": self.fingerprint,
            **({"callback_digest": self.callback_digest} if self.callback_digest else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Submission:
        """The reverse of :meth:`to_json`; also reads a result record, which holds the same keys."""
        size = value.get("size")
        return cls(
            seedream_task_id=value["seedream_task_id"],
            price_per_image=Decimal(str(value["price_per_image_usd"])),
            model=value["model"],
            resolution=value["resolution"],
            submitted_at=from_iso(value.get("created_at")),
            requested=value.get("requested"),
            size=(size[0], size[1]) if size else None,
            request=value.get("request"),
            provider=value.get("provider"),
            fingerprint=value.get("fingerprint"),
            callback_digest=value.get("callback_digest"),
        )


def result_record(*purchases: tuple[Submission, TaskStatus]) -> dict[str, Any]:
    """The result of a finished task, for XCom; of a task and its top-ups, where images were missing.

    :param purchases: the submission and the successful status of each; the top-ups come last.
    :returns: the keys of :meth:`Submission.to_json`, and: ``state``, ``urls`` (list), ``delivered``
        (number of images), ``cost_usd`` (delivered images x unit price), ``refunded_usd`` (``None`` where
        the pre-charge is not known), ``created_at``, ``completed_at`` and ``expires_at`` (ISO 8601, UTC;
        the vendor promises 15 days, which is advice), ``top_up_task_ids`` (list), ``reused`` (whether
        all this was bought earlier, so that nothing was charged this time). Money is the sum of all.
    """
    (submission, status), *top_ups = purchases
    urls = [url for _, one in purchases for url in one.urls]
    cost = sum((len(one.urls) * bought.price_per_image for bought, one in purchases), Decimal(0))
    charged = _sum_of([bought.charged for bought, _ in purchases])
    return {
        # How the result was delivered is no part of it.
        **replace(submission, callback_digest=None).to_json(),
        "state": status.state,
        "urls": urls,
        "delivered": len(urls),
        "charged_usd": _usd(charged),
        "cost_usd": _usd(cost),
        "refunded_usd": None if charged is None else _usd(max(charged - cost, Decimal(0))),
        "created_at": to_iso(status.created_at or submission.submitted_at),
        "completed_at": to_iso(max((one.completed_at or 0 for _, one in purchases), default=0) or None),
        "expires_at": to_iso(_expiry(submission, status)),
        "top_up_task_ids": [bought.seedream_task_id for bought, _ in top_ups],
        "reused": False,
    }


def _expiry(submission: Submission, status: TaskStatus) -> float | None:
    """Epoch seconds until which the vendor promises to keep the images."""
    since = status.completed_at or status.created_at or submission.submitted_at
    return since + MODELS[submission.model].result_lifetime if since else None


def _sum_of(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """The sum, where every amount is known."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def _usd(amount: Decimal | None) -> float | None:
    """A JSON number; ``Decimal(str(number))`` gives the exact amount back."""
    return None if amount is None else float(amount)
