"""Records what was bought with one POST, in a form that goes to XCom and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_seedream.apixo.model import DEFAULT_MODEL, MODELS, Pace, Size
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.times import from_iso, to_iso

SUBMISSION_KEY = "submission"
"""XCom key of :meth:`Submission.to_json`, pushed as soon as the API has accepted the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A purchase: what one POST has bought.

    :param seedream_task_id: the API's taskId.
    :param price_per_image: USD.
    :param resolution: decides the pace of the polls.
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
        """Return the record of a request that was accepted just now."""
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

    @classmethod
    def unrecorded(
        cls,
        seedream_task_id: str,
        *,
        price_per_image: Decimal,
        model: str = DEFAULT_MODEL,
        resolution: str = "2K",
        requested: int | None = None,
    ) -> Submission:
        """Return what is known of a task whose submission nobody recorded here."""
        return cls(
            seedream_task_id=seedream_task_id,
            price_per_image=price_per_image,
            model=model,
            resolution=resolution,
            requested=requested,
        )

    @property
    def pace(self) -> Pace:
        """The pace at which the result is polled for."""
        return MODELS[self.model].resolutions[self.resolution].pace

    @property
    def charged(self) -> Decimal | None:
        """The pre-charge in USD, where the number of images is known."""
        return None if self.requested is None else self.requested * self.price_per_image

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; ``created_at`` is ISO 8601, ``size`` is ``[width, height]``, money is USD.

        ``callback_digest`` is there only where Airflow is called.
        """
        return {
            "seedream_task_id": self.seedream_task_id,
            "model": self.model,
            "resolution": self.resolution,
            "created_at": to_iso(self.submitted_at),
            "requested": self.requested,
            "price_per_image_usd": float(self.price_per_image),
            "charged_usd": to_usd(self.charged),
            "size": list(self.size) if self.size else None,
            "request": dict(self.request) if self.request is not None else None,
            "provider": self.provider,
            "fingerprint": self.fingerprint,
            **({"callback_digest": self.callback_digest} if self.callback_digest else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Submission:
        """Return the reverse of :meth:`to_json`; also reads a result, which holds the same keys."""
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


def to_usd(amount: Decimal | None) -> float | None:
    """Return an amount as a JSON number; ``Decimal(str(number))`` gives the exact amount back."""
    return None if amount is None else float(amount)
