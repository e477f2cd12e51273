"""What the gallery's pages and files show, and to what addresses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.requests import ClientDisconnect

from airflow_provider_seedream.gallery.pages import FileStream
from airflow_provider_seedream.storage.index import SAVED_KEY
from airflow_provider_seedream.urls import TaskAddress
from tests.support.metadata_rows import MetadataRows
from tests.unit.gallery.gallery_site import (
    HOSTILE,
    TASK,
    save,
)


class TestOnlyWhatTheTaskHasSaved:
    def test_is_served(self, log_in: Any, saved: Any, tmp_path: Path) -> None:
        answer = log_in("art").get(TASK.make_file_path(1))
        assert answer.content == (tmp_path / "images" / "one.png").read_bytes()
        assert answer.headers["Content-Type"] == "image/png"

    @pytest.mark.parametrize("index", ["0", "2", "-1", "999999999999999999999", "x", "1/../2", "%2e%2e"])
    def test_no_other_number_leads_anywhere(self, log_in: Any, saved: Any, index: str) -> None:
        for ending in ("", "/thumbnail", "/file"):
            answer = log_in("art").get(f"{TASK.path}/images/{index}{ending}")
            assert answer.status_code in (404, 422)

    @pytest.mark.parametrize(
        "path",
        [
            "/static/../app.py",
            "/static/%2e%2e/app.py",
            "/static/..%2fapp.py",
            "/static//etc/passwd",
            "/static/",
            "/dags/art/runs/..%2f..%2fr1/tasks/draw/-1/images/1/file",
            "/dags/art/runs/r1/tasks/draw/-1/images/1/file/../../../../../../etc/passwd",
        ],
    )
    def test_no_path_leads_out(self, log_in: Any, saved: Any, path: str) -> None:
        answer = log_in("art").get(path)
        assert answer.status_code in (403, 404, 405)
        assert b"root:" not in answer.content
        assert b"create_app" not in answer.content

    @pytest.mark.parametrize(
        "name", ["../secret.png", "/etc/passwd", "..", "a/../../secret.png", "secret.txt"]
    )
    def test_a_forged_result_reads_no_other_file(
        self, log_in: Any, rows: MetadataRows, tmp_path: Path, name: str
    ) -> None:
        entry = save(tmp_path / "images")
        save(tmp_path, "secret.png", task_id="other")
        (tmp_path / "images" / "secret.txt").write_text("the secret")
        manifest = tmp_path / "images" / "task_1-manifest.json"
        forged = json.loads(manifest.read_text())
        forged["images"][0]["name"] = name
        manifest.write_text(json.dumps(forged))
        entry["images"][0]["name"] = name
        rows.task(rows.run("art", "r1"), "draw", xcoms={SAVED_KEY: entry})
        for path in (TASK.make_thumbnail_path(1), TASK.make_file_path(1)):
            answer = log_in("art").get(path)
            assert answer.status_code == 422
            assert b"the secret" not in answer.content

    def test_a_manifest_elsewhere_is_not_read(self, log_in: Any, rows: MetadataRows, tmp_path: Path) -> None:
        entry = save(tmp_path / "images") | {"destination": str(tmp_path / "other")}
        rows.task(rows.run("art", "r1"), "draw", xcoms={SAVED_KEY: entry})
        assert log_in("art").get(TASK.make_file_path(1)).status_code == 422
        page = log_in("art").get(TASK.make_image_path(1))
        assert page.status_code == 200
        assert "outside its destination" in page.text


class TestFiles:
    async def test_are_closed_when_their_reader_goes_away(self, tmp_path: Path) -> None:
        path = tmp_path / "large"
        path.write_bytes(bytes(2**20))
        file = path.open("rb")

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise OSError("the reader went away")

        with pytest.raises(ClientDisconnect):
            await FileStream(file)({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
        assert file.closed

    def test_are_sent_as_they_are(self, log_in: Any, saved: Any, tmp_path: Path) -> None:
        headers = log_in("art").get(TASK.make_file_path(1), headers={"Accept-Encoding": "gzip"}).headers
        assert headers["Content-Encoding"] == "identity"
        assert int(headers["Content-Length"]) == (tmp_path / "images" / "one.png").stat().st_size


class TestThumbnails:
    def test_that_were_made_for_one_task_are_not_served_to_a_forger(
        self, log_in: Any, saved: Any, rows: MetadataRows
    ) -> None:
        assert log_in("art").get(TASK.make_thumbnail_path(1)).status_code == 200
        forged = saved | {"seedream_task_id": "another", "manifest": "file:///nowhere/x-manifest.json"}
        rows.task(rows.run("art", "r2"), "forged", xcoms={SAVED_KEY: forged})
        answer = log_in("art").get(TaskAddress("art", "r2", "forged").make_thumbnail_path(1))
        assert answer.status_code == 422

    def test_a_forger_does_not_learn_whose_images_lie_there(
        self, log_in: Any, saved: Any, rows: MetadataRows
    ) -> None:
        forged = saved | {"seedream_task_id": "guessed"}
        rows.task(rows.run("art", "r2"), "forged", xcoms={SAVED_KEY: forged})
        task = TaskAddress("art", "r2", "forged")
        for path in (task.make_thumbnail_path(1), task.make_image_path(1)):
            assert "task_1 " not in log_in("art").get(path).text.replace("task_1-", "")

    def test_are_small_and_not_sent_twice(self, log_in: Any, saved: Any, tmp_path: Path) -> None:
        ann = log_in("art")
        answer = ann.get(TASK.make_thumbnail_path(1))
        assert answer.headers["Content-Type"] == "image/webp"
        assert len(answer.content) * 5 < (tmp_path / "images" / "one.png").stat().st_size
        assert max(Image.open(io.BytesIO(answer.content)).size) <= 480
        again = ann.get(TASK.make_thumbnail_path(1), headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_are_made_once(self, log_in: Any, saved: Any, tmp_path: Path) -> None:
        ann = log_in("art")
        first = ann.get(TASK.make_thumbnail_path(1)).content
        (tmp_path / "images" / "one.png").unlink()
        assert ann.get(TASK.make_thumbnail_path(1)).content == first


class TestTextIsText:
    def test_a_prompt_is_never_markup(self, log_in: Any, rows: MetadataRows, tmp_path: Path) -> None:
        entry = save(tmp_path / "images", prompt=HOSTILE)
        rows.task(rows.run("art", "r1"), "draw", xcoms={SAVED_KEY: entry})
        ann = log_in("art")
        for path in ("/", f"/?text={HOSTILE}", "/dags/art/runs/r1", TASK.path, TASK.make_image_path(1)):
            page = ann.get(path).text
            assert "<script>alert" not in page
            assert "&lt;script&gt;alert" in page

    def test_nor_are_the_names_in_an_address(self, log_in: Any, saved: Any) -> None:
        for path in (
            f"/dags/art/runs/{HOSTILE}",
            f"/dags/art/runs/r1/tasks/{HOSTILE}/-1",
            f"/?cursor={HOSTILE}",
        ):
            assert "<script>alert" not in log_in("art").get(path).text
