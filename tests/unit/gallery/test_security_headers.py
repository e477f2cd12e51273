"""What a browser may do with the gallery's answers."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_seedream.gallery import queries
from airflow_provider_seedream.gallery.security_headers import FILE_POLICY, PAGE_POLICY
from tests.unit.gallery.gallery_site import (
    PAGES,
    TASK,
)


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", *PAGES, "/static/gallery.css", "/nothing"])
    def test_every_answer_is_locked_down(self, log_in: Any, saved: Any, path: str) -> None:
        headers = log_in("art").get(path).headers
        assert headers["Content-Security-Policy"] in (PAGE_POLICY, FILE_POLICY)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "private, no-cache"
        assert "unsafe" not in headers["Content-Security-Policy"]

    def test_so_are_those_to_a_fault_of_our_own(
        self, log_in: Any, saved: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any) -> None:
            raise RuntimeError("a fault")

        monkeypatch.setattr(queries, "read_page", broken)
        answer = log_in("art").get(TASK.path)
        assert answer.status_code == 500
        assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
        assert "the log of the api-server says what" in answer.text
        assert "a fault" not in answer.text

    def test_nothing_in_an_image_runs(self, log_in: Any, saved: Any) -> None:
        assert log_in("art").get(TASK.make_file_path(1)).headers["Content-Security-Policy"] == FILE_POLICY
