"""Work on a thread that nobody must wait for."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future
from functools import partial

import pytest

from airflow_provider_seedream.daemon_threads import fulfil, start_daemon


class TestAThread:
    def test_does_its_work_under_its_name(self) -> None:
        name: Future[str] = Future()
        start_daemon("seedream-test", lambda: name.set_result(threading.current_thread().name))
        assert name.result(30) == "seedream-test"

    def test_that_hangs_keeps_no_process_from_exiting(self) -> None:
        code = (
            "import threading\n"
            "from airflow_provider_seedream.daemon_threads import start_daemon\n"
            "start_daemon('hangs', threading.Event().wait)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestAFuture:
    def test_has_the_result_of_the_work(self) -> None:
        future: Future[int] = Future()
        start_daemon("seedream-test", partial(fulfil, future, partial(int, "7")))
        assert future.result(30) == 7

    @pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1), KeyboardInterrupt()])
    def test_has_its_error_of_whatever_kind(self, error: BaseException) -> None:
        def work() -> None:
            raise error

        future: Future[None] = Future()
        fulfil(future, work)
        assert future.exception() is error

    def test_that_was_given_up_costs_no_work(self) -> None:
        future: Future[None] = Future()
        future.cancel()
        fulfil(future, lambda: pytest.fail("nobody waits for it"))

    def test_cannot_be_given_up_once_work_has_begun(self) -> None:
        future: Future[bool] = Future()
        fulfil(future, future.cancel)
        assert future.result() is False
