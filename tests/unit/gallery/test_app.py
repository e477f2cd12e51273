"""Who may see what, and what comes back: the gallery's application, with Airflow's own tokens and checks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from starlette.requests import ClientDisconnect

from airflow_provider_seedream.gallery import queries
from airflow_provider_seedream.gallery.app import FileStream
from airflow_provider_seedream.gallery.security_headers import FILE_POLICY, PAGE_POLICY
from airflow_provider_seedream.plugins.seedream import gallery_app
from airflow_provider_seedream.storage.destination import resolve_destination
from airflow_provider_seedream.storage.index import SAVED_KEY, IndexEntry
from airflow_provider_seedream.storage.inspection import inspect_image
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage
from airflow_provider_seedream.times import to_iso
from airflow_provider_seedream.urls import MOUNT, TaskAddress
from tests.support.metadata_rows import MetadataRows, saved_entry

TASK = TaskAddress("art", "r1", "draw")
HOSTILE = "<script>alert(1)</script>"


class RightsPerDag(SimpleAuthManager):
    """Airflow's simple auth manager, but each user may read some DAGs only."""

    rights: ClassVar[dict[str, set[str]]] = {}

    def is_authorized_dag(self, *, user: Any, details: Any = None, **kwargs: Any) -> bool:
        """As the DAG ids of the user say; without a DAG, whoever may read any."""
        allowed = self.rights.get(user.get_id(), set())
        return bool(allowed) if details is None or details.id is None else details.id in allowed


@pytest.fixture(scope="module")
def auth(airflow_database: None) -> Iterator[RightsPerDag]:
    from airflow.api_fastapi.app import create_auth_manager, purge_cached_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", f"{__name__}.RightsPerDag")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
        purge_cached_app()
        yield create_auth_manager()  # type: ignore[misc]
    purge_cached_app()


class Reader:
    """A browser in which somebody is logged in, or nobody."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def get(self, path: str, **options: Any) -> Any:
        """One request below the mount point."""
        return self._client.get(f"{MOUNT}{path}", **options)


@pytest.fixture
def log_in(auth: RightsPerDag, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes readers; each with the DAGs that they may read."""
    host = FastAPI()
    host.mount(MOUNT, gallery_app())

    def make(*dag_ids: str, name: str = "ann") -> Reader:
        monkeypatch.setitem(RightsPerDag.rights, name, set(dag_ids))
        token = auth.generate_jwt(SimpleAuthManagerUser(username=name, role="viewer"))
        return Reader(TestClient(host, cookies={"_token": token}, raise_server_exceptions=False))

    make.nobody = Reader(TestClient(host))  # type: ignore[attr-defined]
    return make


@pytest.fixture
def rows(airflow_database: None) -> Iterator[MetadataRows]:
    """Rows that the application sees; they are gone after the test."""
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.settings import Session
    from sqlalchemy import delete

    with Session() as session:
        yield CommittingRows(session)
        session.rollback()
        for model in (XComModel, TaskInstance, DagRun, DagVersion, DagModel):
            session.execute(delete(model).where(model.dag_id.in_(("art", "secret"))))
        session.commit()


class CommittingRows(MetadataRows):
    """As its base, and others see each row at once."""

    def task(self, *args: Any, **kwargs: Any) -> None:
        super().task(*args, **kwargs)
        self._session.commit()


def save(
    folder: Path, name: str = "one.png", prompt: str = "a fox", task_id: str = "task_1"
) -> dict[str, Any]:
    """Save an image and its manifest as a task does; returns the task's entry."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    Image.effect_noise((1600, 1200), 20).save(path)
    facts = inspect_image(path)
    image = SavedImage(
        index=1, path=path.as_uri(), name=name, url="https://cdn.example/one", bytes=facts.bytes,
        sha256=facts.sha256, format=facts.format, width=facts.width, height=facts.height,
    )  # fmt: skip
    manifest = Manifest(
        seedream_task_id=task_id, request={"prompt": prompt}, cost_usd=0.035, images=(image,),
        saved_at=to_iso(datetime(2026, 3, 1, tzinfo=UTC).timestamp()),
    )  # fmt: skip
    where = folder / f"{task_id}-manifest.json"
    where.write_text(manifest.to_json())
    destination = str(resolve_destination(str(folder)))
    entry = IndexEntry.of(manifest, destination=destination, path=f"{destination}/{where.name}", reused=False)
    return entry.to_json()


@pytest.fixture
def saved(rows: MetadataRows, tmp_path: Path) -> dict[str, Any]:
    """One image of one task, saved."""
    entry = save(tmp_path / "images")
    rows.task(rows.run("art", "r1"), "draw", xcoms={SAVED_KEY: entry})
    return entry


PAGES = (
    "/dags/art/runs/r1",
    TASK.path,
    TASK.make_image_path(1),
    TASK.make_thumbnail_path(1),
    TASK.make_file_path(1),
)


class TestOnlyReadersOfTheDag:
    @pytest.mark.parametrize("path", PAGES)
    def test_see_its_pages_and_images(self, log_in: Any, saved: Any, path: str) -> None:
        assert log_in("art").get(path).status_code == 200
        assert log_in("other").get(path).status_code == 403
        assert log_in.nobody.get(path).status_code == 401

    @pytest.mark.parametrize("path", PAGES)
    def test_a_refusal_does_not_tell_whether_there_is_something(
        self, log_in: Any, saved: Any, path: str
    ) -> None:
        refusals = [
            log_in("other").get(one)
            for one in (path, path.replace("/r1", "/nothing"), path.replace("/art/", "/nothing/"))
        ]
        assert len({(answer.status_code, answer.text) for answer in refusals}) == 1
        assert "a fox" not in refusals[0].text

    def test_the_page_of_all_dags_lists_readable_ones_only(
        self, log_in: Any, saved: Any, rows: MetadataRows
    ) -> None:
        secret = {SAVED_KEY: saved_entry(prompt="our next product")}
        rows.task(rows.run("secret", "r1"), "draw", xcoms=secret)
        page = log_in("art").get("/").text
        assert "a fox" in page
        assert "our next product" not in page
        assert "secret" not in page
        assert "our next product" not in log_in("art").get("/?dag_id=secret").text
        assert "a fox" not in log_in("nothing").get("/").text
        assert log_in.nobody.get("/").status_code == 401

    def test_a_right_that_is_withdrawn_ends_with_the_next_request(self, log_in: Any, saved: Any) -> None:
        ann = log_in("art")
        answer = ann.get(TASK.make_thumbnail_path(1))
        assert answer.status_code == 200
        RightsPerDag.rights["ann"] = set()
        assert (
            ann.get(
                TASK.make_thumbnail_path(1), headers={"If-None-Match": answer.headers["ETag"]}
            ).status_code
            == 403
        )
        assert ann.get(TASK.make_file_path(1)).status_code == 403

    @pytest.mark.parametrize("token", ["", "x", "x.y.z"])
    def test_a_forged_token_is_refused(self, log_in: Any, saved: Any, token: str) -> None:
        for path in PAGES:
            answer = log_in.nobody.get(path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code in (401, 403)

    def test_the_word_for_any_dag_opens_none(self, log_in: Any, saved: Any) -> None:
        for path in PAGES:
            assert log_in("art").get(path.replace("/art/", "/~/")).status_code in (403, 404)

    def test_a_dag_in_the_query_does_not_replace_that_of_the_path(self, log_in: Any, saved: Any) -> None:
        for path in PAGES:
            assert log_in("other").get(f"{path}?dag_id=other").status_code == 403


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
        host.mount(MOUNT, gallery_app())
        monkeypatch.setitem(RightsPerDag.rights, "ann", {"art"})
        token = auth.generate_jwt(SimpleAuthManagerUser(username="ann", role="viewer"))
        client = TestClient(host, cookies={"_token": token})
        page = client.get(f"/airflow{MOUNT}{TASK.path}").text
        assert f'"/airflow{MOUNT}{TASK.make_thumbnail_path(1)}"' in page
        assert f'"{MOUNT}/' not in page
