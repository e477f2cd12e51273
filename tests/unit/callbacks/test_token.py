"""Whatever a task is called, its address leads back to it, and nobody else's text passes for one."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import replace

import pytest

from airflow_provider_seedream.callbacks.token import MAX_TOKEN_CHARACTERS, CallbackToken
from airflow_provider_seedream.urls import TaskAddress

TASK = TaskAddress("dag", "manual__2026-11-22T09:00:00+00:00", "task")
LONGEST_ID = 250
"""Characters that Airflow's database takes."""


def forged(*fields: object) -> str:
    """What a stranger can send, with any fields."""
    return (
        f"{urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip('=')}.{secrets.token_urlsafe(32)}"
    )


@pytest.mark.parametrize("sign", ["a", '"', "\\", "ä", "語", "\U00020bb7"])
def test_the_longest_ids_are_understood(sign: str) -> None:
    longest = sign * LONGEST_ID
    token = CallbackToken.for_purchase(TaskAddress(longest, longest, longest, 2**31 - 1))
    assert CallbackToken.from_text(token.to_text()) == token
    assert len(token.to_text()) <= MAX_TOKEN_CHARACTERS


def test_an_address_made_by_a_release_that_escaped_its_letters_is_understood() -> None:
    token = CallbackToken.from_text(forged("ä", "語", "t", 3))
    assert token is not None
    assert token.task == TaskAddress("ä", "語", "t", 3)


@pytest.mark.parametrize("strange", ["\0", "\ud800", "a\0b"])
@pytest.mark.parametrize("part", ["dag_id", "run_id", "task_id"])
def test_ids_that_no_database_can_be_asked_for_are_refused(part: str, strange: str) -> None:
    task = replace(TASK, **{part: strange})
    assert CallbackToken.from_text(forged(task.dag_id, task.run_id, task.task_id, -1)) is None


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("d", "r", "t"),
        ("d", "r", "t", -1, 1),
        ("d", "r", None, -1),
        ("d", "r", "t", True),
        ("d", "r", "t", 1.0),
        ("d", "r", "t", -2),
        ("d", "r", "t", 2**31),
    ],
)
def test_what_names_no_task_is_refused(fields: tuple[object, ...]) -> None:
    assert CallbackToken.from_text(forged(*fields)) is None


def test_what_is_too_long_is_refused() -> None:
    assert CallbackToken.from_text(forged("d" * MAX_TOKEN_CHARACTERS, "r", "t", -1)) is None


def test_the_nonce_is_not_shown() -> None:
    token = CallbackToken.for_purchase(TASK)
    assert token.nonce not in repr(token)
