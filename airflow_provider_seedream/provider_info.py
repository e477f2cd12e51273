"""Tells Airflow, through an entry point, what this provider brings."""

from __future__ import annotations

from typing import Any

from airflow_provider_seedream import __version__
from airflow_provider_seedream.hooks.connection_form import (
    CONN_TYPE,
    HOOK_NAME,
    make_conn_fields,
    make_form_behaviour,
)
from airflow_provider_seedream.settings import (
    CALLBACK_BASE_URL,
    DEFAULT_MIN_DEFERRAL_SECONDS,
    MIN_DEFERRAL_SECONDS,
    SECTION,
)

PACKAGE = "airflow_provider_seedream"


def get_provider_info() -> dict[str, Any]:
    """Return the metadata in the shape of Airflow's ``provider_info.schema.json``."""
    behaviour = make_form_behaviour()
    return {
        "package-name": "airflow-provider-seedream",
        "name": "Seedream",
        "description": "Seedream 4.5 image generation on the APIXO API",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-class-name": f"{PACKAGE}.hooks.seedream.SeedreamHook",
                "hook-name": HOOK_NAME,
                "conn-fields": make_conn_fields(),
                "ui-field-behaviour": {key.replace("_", "-"): value for key, value in behaviour.items()},
            }
        ],
        "extra-links": [
            f"{PACKAGE}.links.seedream.SeedreamGalleryLink",
            f"{PACKAGE}.links.seedream.SeedreamResultLink",
        ],
        "config": {
            SECTION: {
                "description": "Settings of the Seedream provider.",
                "options": {
                    MIN_DEFERRAL_SECONDS: {
                        "description": (
                            "No trigger resumes its task sooner than this many seconds after the task "
                            "deferred: Airflow's scheduler fails tasks that come back before it has seen "
                            "them leave (apache/airflow issues 66374, 67287, 71580, 72716)."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": f"{DEFAULT_MIN_DEFERRAL_SECONDS:g}",
                    },
                    CALLBACK_BASE_URL: {
                        "description": (
                            "Public https address of the api-server, which APIXO calls when a task with "
                            "request_type='callback' has ended; [api] base_url when empty. The field of "
                            "the same name in a connection's extra goes before both. What a proxy must let "
                            "through stands in docs/callbacks.md."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "https://airflow.example.com",
                        "default": "",
                    },
                },
            }
        },
    }
