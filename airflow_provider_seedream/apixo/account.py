"""Describes the account that is used: where the API is, who asks, and at what price."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from airflow_provider_seedream.apixo.hosts import leads_to_loopback
from airflow_provider_seedream.apixo.model import SEEDREAM_4_5

DEFAULT_BASE_URL = "https://api.apixo.ai/api/v1"
DEFAULT_REQUEST_TIMEOUT = 60.0

SHORTEST_SECRET = 8
"""A key of fewer letters, as a sandbox takes it, may be part of any word, so it is not searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An address of the API, who asks there, and at what price.

    :param api_key: travels in the ``Authorization`` header to ``base_url`` and nowhere else.
    :param base_url: without a trailing slash.
    :param price_per_image: USD.
    :param provider: routing for requests that name none.
    :param request_timeout: seconds that one HTTP request may take in total, from connect to the last byte.
    :param callback_base_url: where the API reaches Airflow's api-server; Airflow's settings if ``None``.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    price_per_image: Decimal = SEEDREAM_4_5.price_per_image
    provider: str | None = None
    request_timeout: float = DEFAULT_REQUEST_TIMEOUT
    callback_base_url: str | None = None

    @property
    def is_local(self) -> bool:
        """True if the API runs on this machine, as the sandbox does."""
        return leads_to_loopback(self.base_url)
