"""What the gallery answers on bad days: broken addresses, storages and manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_provider_seedream.plugins.seedream import make_gallery_app
from airflow_provider_seedream.storage.index import SAVED_KEY
from airflow_provider_seedream.urls import MOUNT
from tests.support.metadata_rows import MetadataRows, saved_entry
from tests.unit.gallery.gallery_site import (
    TASK,
    RightsPerDag,
    save,
)


class TestBadDays:
    def test_pages_open_although_the_storage_is_gone(self, log_in: Any, rows: MetadataRows) -> None:
        entry = saved_entry(destination="s3://no_such_connection@bucket/art")
        rows.task(rows.run("art", "r1"), "draw", xcoms={SAVED_KEY: entry})
        ann = log_in("art")
        assert "a fox" in ann.get("/").text
        answer = ann.get(TASK.make_thumbnail_path(1))
        assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/plain; charset=utf-8")
        assert "storage" in answer.text
        page = ann.get(TASK.make_image_path(1))
        assert page.status_code == 200
        assert "cannot read the storage" in page.text

    def test_a_deleted_image_says_so(self, log_in: Any, saved: Any, tmp_path: Path) -> None:
        (tmp_path / "images" / "one.png").unlink()
        answer = log_in("art").get(TASK.make_thumbnail_path(1))
        assert answer.status_code == 404
        assert "deleted" in answer.text

    def test_the_image_of_a_later_run_is_not_shown_under_this_prompt(
        self, log_in: Any, saved: Any, tmp_path: Path
    ) -> None:
        save(tmp_path / "images", prompt="another")
        answer = log_in("art").get(TASK.make_thumbnail_path(1))
        assert answer.status_code == 409
        assert "replaced" in answer.text

    @pytest.mark.parametrize(
        "query", ["cursor=broken", "since=yesterday", "until=2026-02-31", "text=" + "x" * 300]
    )
    def test_a_broken_address_gets_a_page_that_says_so(self, log_in: Any, query: str) -> None:
        answer = log_in("art").get(f"/?{query}")
        assert answer.status_code in (400, 422)
        assert answer.headers["Content-Type"].startswith("text/html")

    @pytest.mark.parametrize("number", ["9" * 30, "9" * 6000, "-9", "1e3", "٣", "%00"])
    def test_numbers_out_of_all_bounds_lead_nowhere(self, log_in: Any, saved: Any, number: str) -> None:
        ann = log_in("art")
        for path in (
            f"/dags/art/runs/r1/tasks/draw/{number}/images/1",
            f"/dags/art/runs/r1/tasks/draw/{number}/images/1/file",
            f"{TASK.path}/images/{number}/thumbnail",
        ):
            assert ann.get(path).status_code in (404, 422)
        assert ann.get(f"/dags/art/runs/r1/tasks/draw/{number}").status_code == 200

    @pytest.mark.parametrize(
        "changes",
        [
            {"created_at": "0001-01-01T00:00:00+23:59", "completed_at": "9999-12-31T23:59:59-23:59"},
            {"cost_usd": 1e300},
            {"request": {"prompt": ["a", {"b": 1}], "image_urls": 7, "x": "y" * 5000}},
        ],
    )
    def test_a_manifest_full_of_nonsense_still_has_a_page(
        self, log_in: Any, saved: Any, tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        manifest = tmp_path / "images" / "task_1-manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
        assert log_in("art").get(TASK.make_image_path(1)).status_code == 200

    def test_an_endless_number_in_a_manifest_is_refused(
        self, log_in: Any, saved: Any, tmp_path: Path
    ) -> None:
        manifest = tmp_path / "images" / "task_1-manifest.json"
        nonsense = json.loads(manifest.read_text())
        nonsense["images"][0]["bytes"] = 10**400
        manifest.write_text(json.dumps(nonsense))
        assert "is broken" in log_in("art").get(TASK.make_image_path(1)).text
        assert log_in("art").get(TASK.make_file_path(1)).status_code == 422

    def test_empty_fields_of_the_form_mean_all(self, log_in: Any, saved: Any) -> None:
        assert "a fox" in log_in("art").get("/?dag_id=&text=&since=&until=").text

    def test_a_path_prefix_is_kept_in_every_address(
        self, auth: RightsPerDag, saved: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = FastAPI(root_path="/airflow")
        host.mount(MOUNT, make_gallery_app())
        monkeypatch.setitem(RightsPerDag.rights, "ann", {"art"})
        token = auth.generate_jwt(SimpleAuthManagerUser(username="ann", role="viewer"))
        client = TestClient(host, cookies={"_token": token})
        page = client.get(f"/airflow{MOUNT}{TASK.path}").text
        assert f'"/airflow{MOUNT}{TASK.make_thumbnail_path(1)}"' in page
        assert f'"{MOUNT}/' not in page
