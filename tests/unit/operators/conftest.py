from __future__ import annotations

import pytest

from tests.support.purchases import AnyTask, generate, submit


@pytest.fixture(params=["generate", "blocking generate", "submit"])
def any_task(request: pytest.FixtureRequest) -> AnyTask:
    """Everything that buys."""
    if request.param == "submit":
        return submit
    return lambda **fixed: generate(**{"deferrable": request.param == "generate", **fixed})
