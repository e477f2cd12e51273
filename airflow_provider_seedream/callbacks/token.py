"""Makes the last part of a callback address: which Airflow task has bought, and proof of having been told."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Self

from airflow_provider_seedream.urls import TaskAddress, is_id

MAX_TOKEN_CHARACTERS = 4_096
"""Three ids of 250 characters of four bytes each, the most that Airflow takes, make 4072."""

_NONCE_BYTES = 32
_NONCE_CHARACTERS = 43
_LARGEST_MAP_INDEX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CallbackToken:
    """Names the Airflow task that buys, which may be another one than the one that waits.

    Only the nonce's digest is recorded (in the journal of the task's purchases), so nobody who reads
    Airflow's database can make a callback, and workers and api-servers share no secret.

    :param nonce: unguessable; one for each submission.
    """

    task: TaskAddress
    nonce: str = field(repr=False)

    @classmethod
    def for_purchase(cls, task: TaskAddress) -> Self:
        """Make a new one, for one submission."""
        return cls(task, secrets.token_urlsafe(_NONCE_BYTES))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the nonce: it is recorded, and may be seen by anybody."""
        return hashlib.sha256(self.nonce.encode()).hexdigest()

    def to_text(self) -> str:
        """Return the part of the address; URL-safe."""
        task = self.task
        fields = [task.dag_id, task.run_id, task.task_id, task.map_index]
        named = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
        return f"{urlsafe_b64encode(named.encode()).decode().rstrip('=')}.{self.nonce}"

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Read what :meth:`to_text` made; ``None`` for anything that is no token."""
        named, _, nonce = text.partition(".")
        if len(text) > MAX_TOKEN_CHARACTERS or len(nonce) != _NONCE_CHARACTERS or not text.isascii():
            return None
        try:
            fields = json.loads(urlsafe_b64decode(named + "=" * (-len(named) % 4)))
        except (ValueError, RecursionError):
            return None
        task = _read_task(fields)
        return cls(task, nonce) if task else None


def _read_task(fields: object) -> TaskAddress | None:
    match fields:
        case [str(dag_id), str(run_id), str(task_id), int(map_index)] if (
            all(map(is_id, (dag_id, run_id, task_id)))
            and not isinstance(map_index, bool)
            and -1 <= map_index <= _LARGEST_MAP_INDEX
        ):
            return TaskAddress(dag_id, run_id, task_id, map_index)
        case _:
            return None
