from __future__ import annotations

from typing import Self

import pytest

from dev.service import Service


class Recorded(Service):
    """A service that may fail while it starts."""

    def __init__(self, *, starts: bool = True) -> None:
        self.starts = starts
        self.steps: list[str] = []

    def start(self) -> Self:
        self.steps.append("start")
        if not self.starts:
            raise RuntimeError("half a start")
        return self

    def stop(self) -> None:
        self.steps.append("stop")


class TestAServiceIsStopped:
    def test_at_the_end_of_its_block(self) -> None:
        with Recorded() as service:
            service.steps.append("use")
        assert service.steps == ["start", "use", "stop"]

    def test_by_an_error_in_its_block(self) -> None:
        service = Recorded()
        with pytest.raises(KeyboardInterrupt), service:
            raise KeyboardInterrupt
        assert service.steps == ["start", "stop"]

    def test_if_it_did_not_start_wholly(self) -> None:
        service = Recorded(starts=False)
        with pytest.raises(RuntimeError, match="half a start"), service:
            pytest.fail("it has not started")
        assert service.steps == ["start", "stop"]
