"""The record of requests, by which a test learns what a client has sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_seedream.sandbox import traffic
from airflow_provider_seedream.sandbox.traffic import Traffic
from tests.unit.sandbox.users import MODEL, Account


class TestTheRecordOfRequests:
    def test_holds_names_of_headers_and_no_key(self, account: Account, url: str) -> None:
        account.http.get(url)
        report = account.ledger()["requests"]
        submit, image = report[0], report[-1]
        assert (submit["method"], submit["path"], submit["status"]) == (
            "POST",
            f"/api/v1/generateTask/{MODEL}",
            200,
        )
        assert "authorization" in submit["headers"]
        assert image["path"].startswith("/results/")
        assert "authorization" not in image["headers"]
        assert account.key not in str(report)

    def test_leaves_out_the_controls(self, open_account: Callable[[str], Account]) -> None:
        account = open_account("quiet")
        account.control("DELETE", "/faults")
        assert account.ledger()["requests"] == []


def test_only_the_last_requests_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "REMEMBERED", 2)
    record = Traffic()
    for path in ("/1", "/2", "/3"):
        record.record({"type": "http", "method": "GET", "path": path, "headers": []}, at=1)
    assert [request["path"] for request in record.report()] == ["/2", "/3"]
