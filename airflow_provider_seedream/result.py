"""The result of a generation, as operators and sensor return it to XCom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_seedream.apixo.model import MODELS
from airflow_provider_seedream.apixo.records import Submission, to_usd
from airflow_provider_seedream.storage.manifest import SavedImage
from airflow_provider_seedream.times import to_iso

if TYPE_CHECKING:
    from airflow_provider_seedream.apixo.status import TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of a task, or of a task and its top-ups, whose money and images are then those of all.

    All values are JSON's own: money is in USD, times are ISO 8601 in UTC. What is not known is ``None``.

    :param seedream_task_id: the API's taskId
    :param model: the model's id
    :param resolution: ``2K`` or ``4K``
    :param created_at: when the task was created
    :param requested: images that were ordered
    :param price_per_image_usd: the connection's price
    :param charged_usd: the pre-charge
    :param size: exact width and height that the images must have; ``None`` without ``aspect_ratio``
    :param request: what was sent as ``input``
    :param provider: the routing that was sent
    :param fingerprint: a hash of what was bought
    :param state: ``success``
    :param urls: of the images, at the vendor's result host
    :param delivered: images that came
    :param cost_usd: of the images that came
    :param refunded_usd: of the pre-charge, for images that did not come
    :param completed_at: when the last image was done
    :param expires_at: until when the vendor promises to keep the images, 15 days; advice, so save them at
        once
    :param top_up_task_ids: tasks that brought missing images
    :param reused: whether all this lay at the destination already; then nothing was charged, and money is 0
    :param destination: where the images were saved; this and what follows is there only then
    :param manifest: path of the manifest
    :param images: for each one ``index``, ``path``, ``name``, ``url``, ``bytes``, ``sha256``, ``format``,
        ``width`` and ``height``
    """

    seedream_task_id: str
    model: str | None = None
    resolution: str | None = None
    created_at: str | None = None
    requested: int | None = None
    price_per_image_usd: float | None = None
    charged_usd: float | None = None
    size: Sequence[int] | None = None
    request: Mapping[str, Any] | None = None
    provider: str | None = None
    fingerprint: str | None = None
    state: str | None = None
    urls: tuple[str, ...] = ()
    delivered: int = 0
    cost_usd: float | None = None
    refunded_usd: float | None = None
    completed_at: str | None = None
    expires_at: str | None = None
    top_up_task_ids: tuple[str, ...] = ()
    reused: bool = False
    destination: str | None = None
    manifest: str | None = None
    images: tuple[SavedImage, ...] = ()

    @classmethod
    def of(cls, *purchases: tuple[Submission, TaskStatus]) -> Self:
        """Return the result of finished tasks.

        :param purchases: the submission and the successful status of each; the top-ups come last.
        """
        (submission, status), *top_ups = purchases
        urls = tuple(url for _, one in purchases for url in one.urls)
        cost = sum((len(one.urls) * bought.price_per_image for bought, one in purchases), Decimal(0))
        charged = _sum_if_known(bought.charged for bought, _ in purchases)
        # How the result was delivered is no part of it.
        ordered = replace(submission, callback_digest=None).to_json()
        return cls(
            **{
                **ordered,
                "state": status.state,
                "urls": urls,
                "delivered": len(urls),
                "charged_usd": to_usd(charged),
                "cost_usd": to_usd(cost),
                "refunded_usd": None if charged is None else to_usd(max(charged - cost, Decimal(0))),
                "created_at": to_iso(status.created_at or submission.submitted_at),
                "completed_at": to_iso(
                    max((one.completed_at or 0 for _, one in purchases), default=0) or None
                ),
                "expires_at": to_iso(_find_expiry(submission, status)),
                "top_up_task_ids": tuple(bought.seedream_task_id for bought, _ in top_ups),
            }
        )

    @property
    def missing(self) -> int:
        """Images that were ordered and did not come; 0 where it is not known how many were ordered."""
        return max(0, self.requested - self.delivered) if self.requested else 0

    def to_json(self) -> dict[str, Any]:
        """Return what goes to XCom; what only saved images have is left out where none were saved."""
        value = {**asdict(self), "urls": list(self.urls), "top_up_task_ids": list(self.top_up_task_ids)}
        value["images"] = [asdict(image) for image in self.images]
        if self.manifest is None:
            for name in ("destination", "manifest", "images"):
                del value[name]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the reverse of :meth:`to_json`; unknown keys are ignored, and what is no request or image.

        :raises TypeError: there is no ``seedream_task_id``.
        """
        images, request = value.get("images"), value.get("request")
        listed = images if isinstance(images, list | tuple) else ()
        lists = {name: tuple(value.get(name) or ()) for name in ("urls", "top_up_task_ids")}
        saved = tuple(image for one in listed if (image := _read_image(one)) is not None)
        known = request if isinstance(request, Mapping) else None
        return cls(**{**_pick_fields(cls, value), **lists, "request": known, "images": saved})


def _read_image(value: Any) -> SavedImage | None:
    try:
        return SavedImage(**_pick_fields(SavedImage, value))
    except (TypeError, AttributeError):
        return None


def _pick_fields(kind: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: value[field.name] for field in fields(kind) if field.name in value}


def _find_expiry(submission: Submission, status: TaskStatus) -> float | None:
    """Return the epoch seconds until which the vendor promises to keep the images."""
    since = status.completed_at or status.created_at or submission.submitted_at
    return since + MODELS[submission.model].result_lifetime if since else None


def _sum_if_known(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum, where every amount is known."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
