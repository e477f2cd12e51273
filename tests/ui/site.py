"""An Airflow to be seen in a browser: with people who log in, and rights that can be taken away."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.airflow_api import User
from tests.support.airflow_world import World, airflow_world
from tests.ui.auth_manager import RIGHTS_FILE, RightsAuthManager

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "dags_examples"

ADMIN = User("admin", "admin", "admin-5a1f")
VIEWER = User("viewer", "viewer", "viewer-7c02")
STRANGER = User("stranger", "viewer", "stranger-d9e4")

SHARED_DAG = "gallery_shared"
"""The one DAG that the viewer may read; the stranger may read none."""

SECRET_DAG = "gallery_secret"


class Rights:
    """Which DAGs a user may read; a change counts from the next request on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._dags: dict[str, list[str]] = {}
        self.reset()

    def reset(self) -> None:
        """As at the beginning of every test."""
        self._write({VIEWER.name: [SHARED_DAG], STRANGER.name: []})

    def set(self, user: User, dag_ids: Iterable[str]) -> None:
        """Let a user read these DAGs and no others."""
        self._write(self._dags | {user.name: list(dag_ids)})

    def _write(self, dags: dict[str, list[str]]) -> None:
        self._dags = dags
        # A reader never sees half of it.
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(dags))
        draft.replace(self.path)


@dataclass(frozen=True)
class Site:
    """The running Airflow and its sandbox.

    :param world: see :class:`World`.
    """

    world: World
    rights: Rights

    @property
    def url(self) -> str:
        """Where Airflow's pages are, without a slash at the end."""
        return self.world.stack.url


@contextmanager
def airflow_site(
    base: Path,
    dags: Mapping[str, Path] | None = None,
    *,
    time_scale: float = 0.1,
    env: Mapping[str, str] | None = None,
    **stack_options: Any,
) -> Iterator[Site]:
    """Start it; :data:`ADMIN`, :data:`VIEWER` and :data:`STRANGER` can log in.

    :param base: empty folder for everything that is left behind.
    :param dags: folders of DAG files; those beside this file and the examples if not given.
    :param stack_options: further parameters of :class:`AirflowStack`, such as ``components``, ``base_path``
        and ``python``.
    """
    rights = Rights(base / "rights.json")
    whole_env = {
        "AIRFLOW__CORE__AUTH_MANAGER": f"{RightsAuthManager.__module__}.{RightsAuthManager.__name__}",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW_VAR_SEEDREAM_PUBLISHED": (base / "published").as_uri(),
        "PYTHONPATH": str(ROOT),
        RIGHTS_FILE: str(rights.path),
        **(env or {}),
    }
    folders = dags if dags is not None else {"ui": Path(__file__).parent / "dags", "examples": EXAMPLES}
    users = (ADMIN, VIEWER, STRANGER)
    options = {"time_scale": time_scale, "env": whole_env, "users": users, **stack_options}
    with airflow_world(base, folders, **options) as world:
        yield Site(world, rights)
