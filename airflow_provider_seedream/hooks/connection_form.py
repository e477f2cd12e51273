"""Describes the connection type ``seedream``: its names and its form. Every Airflow process imports this."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_seedream.apixo.account import DEFAULT_BASE_URL, Account
from airflow_provider_seedream.apixo.model import PROVIDERS

CONN_TYPE = "seedream"
DEFAULT_CONN_ID = "seedream_default"
HOOK_NAME = "Seedream (APIXO)"

_DEFAULTS = {field.name: field.default for field in fields(Account)}


@dataclass(frozen=True, slots=True)
class ExtraField:
    """A field of the connection's extra.

    :param name: in the extra, and of the field of :class:`~.account.Account` that it sets.
    :param meaning: what it is for, in a sentence without its full stop.
    :param when_empty: in words, where the default itself says too little.
    :param choices: the values that it may have; any if empty.
    :param is_text: it holds text, and no positive number, where it has no choices.
    """

    name: str
    label: str
    meaning: str
    when_empty: str | None = None
    choices: tuple[str, ...] = ()
    is_text: bool = False

    @property
    def default(self) -> Any:
        """The value that the account has when the field is empty."""
        return _DEFAULTS[self.name]

    @property
    def description(self) -> str:
        """The help below the field."""
        return f"{self.meaning}; {self.when_empty or format(self.default, 'g')} when empty."


EXTRA_FIELDS = (
    ExtraField("price_per_image", "Price per image (USD)", "What your account pays for one image"),
    ExtraField(
        "provider",
        "Routing",
        "Which route APIXO takes when a task names none",
        when_empty="the key's own",
        choices=PROVIDERS,
    ),
    ExtraField("request_timeout", "Request timeout (seconds)", "How long one HTTP request may take in total"),
    ExtraField(
        "callback_base_url",
        "Callback base URL",
        "Public https address of Airflow, which APIXO calls when a task in callback mode has ended",
        when_empty="Airflow's own settings",
        is_text=True,
    ),
)


def make_conn_fields() -> dict[str, Any]:
    """Return the form's extra fields, for the provider's metadata (read by Airflow 3.2 and later)."""
    return {
        field.name: {"label": field.label, "description": field.description, "schema": _make_schema(field)}
        for field in EXTRA_FIELDS
    }


def _make_schema(field: ExtraField) -> dict[str, Any]:
    # Text, numbers too: Airflow's number field turns 1,800 into nothing, and the mouse wheel changes it.
    return {"type": ["string", "null"]} | ({"enum": list(field.choices)} if field.choices else {})


def make_form_widgets() -> dict[str, Any]:
    """Return the form's extra fields as WTForms fields, for Airflow 3.1.

    :raises ImportError: WTForms is not installed; Airflow 3.1 then goes without, but for its api-server,
        which brings a double of it.
    """
    from wtforms import StringField  # type: ignore[import-untyped]
    from wtforms.validators import Optional, any_of  # type: ignore[import-untyped]

    return {
        field.name: StringField(
            field.label,
            description=field.description,
            validators=[Optional(), *([any_of(list(field.choices))] if field.choices else [])],
        )
        for field in EXTRA_FIELDS
    }


def make_form_behaviour() -> dict[str, Any]:
    """Return which standard fields the form shows, and how."""
    return {
        "hidden_fields": ["login", "schema", "port"],
        "relabeling": {"password": "API key", "host": "Base URL"},
        "placeholders": {"host": DEFAULT_BASE_URL},
    }
