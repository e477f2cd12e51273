from __future__ import annotations

import pytest

from tests.support.callback_world import World


@pytest.fixture
def world(airflow_database: None) -> World:
    return World()
