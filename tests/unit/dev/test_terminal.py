from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dev.processes import ENDING, hold_signals, run_child
from dev.terminal import end_on_signals


@pytest.fixture
def _ending_on_signals() -> Iterator[None]:
    handlers = {one: signal.getsignal(one) for one in ENDING}
    end_on_signals()
    yield
    for one, handler in handlers.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("_ending_on_signals")
class TestCtrlC:
    @pytest.mark.parametrize("signum", ENDING)
    def test_ends_what_runs(self, signum: signal.Signals) -> None:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signum)

    def test_does_nothing_the_second_time_so_that_all_can_end(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        for signum in ENDING:
            signal.raise_signal(signum)

    def test_waits_until_the_id_of_a_started_process_is_kept(self) -> None:
        kept = []

        def start() -> None:
            with hold_signals():
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
                kept.append("process")

        with pytest.raises(KeyboardInterrupt):
            start()
        assert kept == ["process"]

    def test_ends_a_child_that_it_met_while_it_was_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[subprocess.Popen[str]] = []

        class Interrupted(subprocess.Popen[str]):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                started.append(self)
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr("subprocess.Popen", Interrupted)
        with (
            pytest.raises(KeyboardInterrupt),
            run_child([sys.executable, "-c", "input()"], stdin=subprocess.PIPE),
        ):
            raise AssertionError("it is interrupted before")
        assert started[0].returncode == -signal.SIGKILL

    def test_is_heard_again_afterwards(self) -> None:
        with hold_signals():
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
