"""Tells Airflow's versions apart: one function for each place where they differ, with its versions."""

from __future__ import annotations

DEFERRAL_FAILED = "__fail__"
"""``next_method`` of a task whose deferral failed (``TRIGGER_FAIL_REPR`` in Airflow 3.1-3.3)."""
