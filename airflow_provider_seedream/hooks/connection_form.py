"""The connection type ``seedream``: its names and its form. Every Airflow process imports this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_seedream.apixo.account import DEFAULT_BASE_URL, DEFAULT_REQUEST_TIMEOUT
from airflow_provider_seedream.apixo.model import PROVIDERS, SEEDREAM_4_5

CONN_TYPE = "seedream"
DEFAULT_CONN_ID = "seedream_default"
HOOK_NAME = "Seedream (APIXO)"


@dataclass(frozen=True, slots=True)
class ExtraField:
    """A field of the connection's extra.

    :param schema: its JSON schema, from which Airflow draws the form.
    """

    name: str
    label: str
    description: str
    schema: Mapping[str, Any]


EXTRA_FIELDS = (
    ExtraField(
        "price_per_image",
        "Price per image (USD)",
        f"What your account pays for one image; {SEEDREAM_4_5.price_per_image} when empty.",
        {"type": ["string", "null"]},
    ),
    ExtraField(
        "provider",
        "Routing",
        "Which route APIXO takes when a task names none; the key's own when empty.",
        {"type": ["string", "null"], "enum": [*PROVIDERS, None]},
    ),
    ExtraField(
        "request_timeout",
        "Request timeout (seconds)",
        f"How long one HTTP request may take in total; {DEFAULT_REQUEST_TIMEOUT:.0f} when empty.",
        {"type": ["string", "null"]},
    ),
)


def conn_fields() -> dict[str, Any]:
    """The form's extra fields, for the provider's metadata (read by Airflow 3.2 and later)."""
    return {
        field.name: {"label": field.label, "description": field.description, "schema": dict(field.schema)}
        for field in EXTRA_FIELDS
    }


def form_behaviour() -> dict[str, Any]:
    """Which standard fields the form shows, and how."""
    return {
        "hidden_fields": ["login", "schema", "port"],
        "relabeling": {"password": "API key", "host": "Base URL"},
        "placeholders": {"host": DEFAULT_BASE_URL},
    }
