"""Holds what each model allows, draws and costs: one table entry per model.

Source of every number: the vendor's Seedream 4.5 page. A sibling model is a new entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range of whole numbers."""

    low: int
    high: int

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of the polls for a result; all values in seconds.

    :param first_poll: delay of the first poll, counted from the task's creation.
    :param interval_low: shortest recommended time between two polls.
    :param interval_high: longest recommended time between two polls.
    """

    first_poll: float
    interval_low: float
    interval_high: float


@dataclass(frozen=True, slots=True)
class Resolution:
    """One resolution tier: its exact output size per aspect ratio, and how long it takes.

    :param sizes: aspect ratio to the exact size in pixels that APIXO asks of the provider.
    :param typical_seconds: the vendor's typical generation time, in seconds.
    """

    sizes: Mapping[str, Size]
    typical_seconds: Range
    pace: Pace


@dataclass(frozen=True, slots=True)
class Model:
    """Limits, output sizes, price and pace of one model.

    :param price_per_image: USD per delivered image.
    :param upstream_timeout: seconds after which the provider itself gives up on a task.
    :param result_lifetime: seconds for which the vendor promises that result URLs work.
    """

    id: str
    prompt_length: Range
    reference_images: Range
    images_per_task: Range
    resolutions: Mapping[str, Resolution]
    sequential_modes: tuple[str, ...]
    price_per_image: Decimal
    upstream_timeout: float
    result_lifetime: float

    @property
    def aspect_ratios(self) -> tuple[str, ...]:
        """The ratios that this model draws, in the vendor's order."""
        return tuple(next(iter(self.resolutions.values())).sizes)


MODES = ("text-to-image", "image-to-image")
REQUEST_TYPES = ("async", "callback")
PROVIDERS = ("auto", "value", "official")
"""Routings of APIXO (from other pages of the vendor than the model page); the price varies with them."""

SEEDREAM_4_5 = Model(
    id="seedream-4-5",
    prompt_length=Range(1, 5000),
    reference_images=Range(1, 14),
    images_per_task=Range(1, 10),
    resolutions={
        "2K": Resolution(
            sizes={
                "1:1": (2048, 2048),
                "2:3": (1664, 2496),
                "3:2": (2496, 1664),
                "3:4": (1728, 2304),
                "4:3": (2304, 1728),
                "9:16": (1600, 2848),
                "16:9": (2848, 1600),
                "21:9": (3136, 1344),
            },
            typical_seconds=Range(25, 35),
            pace=Pace(first_poll=20, interval_low=3, interval_high=5),
        ),
        "4K": Resolution(
            sizes={
                "1:1": (4096, 4096),
                "2:3": (3328, 4992),
                "3:2": (4992, 3328),
                "3:4": (3520, 4704),
                "4:3": (4704, 3520),
                "9:16": (3040, 5504),
                "16:9": (5504, 3040),
                "21:9": (6240, 2656),
            },
            typical_seconds=Range(40, 55),
            pace=Pace(first_poll=30, interval_low=5, interval_high=5),
        ),
    },
    sequential_modes=("disabled", "auto"),
    price_per_image=Decimal("0.035"),
    upstream_timeout=180,
    result_lifetime=15 * 24 * 3600,
)

MODELS: Mapping[str, Model] = {model.id: model for model in (SEEDREAM_4_5,)}
DEFAULT_MODEL = SEEDREAM_4_5.id

DEFAULT_GENERATION_TIMEOUT = 900.0
"""Seconds to wait for a result: the provider gives up after 180 s of work, the rest is for queueing."""
