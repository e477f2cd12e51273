"""Reads Airflow's settings; the names and defaults of the section ``[seedream]`` stand here only.

Airflow asks for the names while it loads that configuration, so ``conf`` is imported when a setting is read.
"""

from __future__ import annotations

SECTION = "seedream"
MIN_DEFERRAL_SECONDS = "min_deferral_seconds"
CALLBACK_BASE_URL = "callback_base_url"

DEFAULT_MIN_DEFERRAL_SECONDS = 12.0
"""Airflow's supervisor may notice the worker's exit 5 s late (``[workers] min_heartbeat_interval``), and a
scheduler under load was seen to need another 3 s (Airflow 3.3.2)."""


def read_min_deferral_seconds() -> float:
    """Return the shortest time in seconds that a task stays deferred.

    :raises AirflowConfigException: it is no number, so read it before money is spent.
    """
    from airflow.providers.common.compat.sdk import conf

    return float(conf.getfloat(SECTION, MIN_DEFERRAL_SECONDS, fallback=DEFAULT_MIN_DEFERRAL_SECONDS))


def read_callback_base_url() -> str:
    """Return where APIXO reaches Airflow's api-server; empty where that is not set."""
    from airflow.providers.common.compat.sdk import conf

    return conf.get(SECTION, CALLBACK_BASE_URL, fallback="") or ""


def read_api_base_url() -> str:
    """Return ``[api] base_url``, where people reach Airflow's web interface; empty where that is not set."""
    from airflow.providers.common.compat.sdk import conf

    return conf.get("api", "base_url", fallback="") or ""
