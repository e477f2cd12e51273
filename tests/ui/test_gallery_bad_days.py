"""The gallery when something is wrong: with a storage, a manifest, an image, a prompt, or a lot of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from airflow_provider_seedream.gallery.queries import TILES
from airflow_provider_seedream.storage.index import SAVED_KEY
from airflow_provider_seedream.urls import MOUNT, TaskAddress
from tests.support.metadata_rows import after, saved_entry
from tests.ui.browser import Visits, expect
from tests.ui.past import Past
from tests.ui.site import ADMIN, SHARED_DAG, VIEWER, Site, airflow_site

pytestmark = pytest.mark.long

HOSTILE = '<script>document.title="broken"</script><img src=x onerror="document.title=1">'


def task_of(run_id: str) -> TaskAddress:
    return TaskAddress(SHARED_DAG, run_id, "generate")


def add_s3(site: Site, conn_id: str, endpoint: str) -> None:
    """A connection to a store that speaks S3."""
    extra = json.dumps({"endpoint_url": endpoint, "region_name": "eu-west-1"})
    connection = {"connection_id": conn_id, "conn_type": "aws", "login": "key", "password": "secret"}
    site.world.stack.call_api("POST", "/connections", json=connection | {"extra": extra})


def gallery(visits: Visits, site: Site, task: TaskAddress) -> Any:
    return visits.open(site, VIEWER, MOUNT + task.path)


class TestAnImageThatCannotBeShown:
    def test_says_why_in_its_tile(self, site: Site, past: Past, visits: Visits) -> None:
        manifest = past.add_images(task_of("deleted"), 2, prompt="half of it is gone")
        Path(manifest.images[0].path.removeprefix("file://")).unlink()
        page = gallery(visits, site, task_of("deleted"))
        expect(page.locator("#tiles .reason")).to_have_text(
            "There is no file of image 1, " + manifest.images[0].name + ". It was deleted, moved or replaced "
            "since the task ran. The api-server must see the same folder as the workers."
        )
        expect(page.locator("#tiles img")).to_have_count(1)
        visits.screenshot(page, "gallery-deleted")

    def test_its_page_opens_all_the_same(self, site: Site, past: Past, visits: Visits) -> None:
        manifest = past.add_images(task_of("changed"), 1)
        path = Path(manifest.images[0].path.removeprefix("file://"))
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        page = visits.open(site, VIEWER, MOUNT + task_of("changed").make_image_path(1))
        expect(page.get_by_text("was changed after it was saved")).to_be_visible()
        expect(page.get_by_text(manifest.seedream_task_id).first).to_be_visible()

    def test_a_storage_that_is_gone_costs_its_own_tiles(self, site: Site, past: Past, visits: Visits) -> None:
        gone = {SAVED_KEY: saved_entry("gone", "in a bucket", destination="s3://nobody@bucket/art")}
        past.add_rows({task_of("gone"): gone}, at=after(1))
        page = gallery(visits, site, task_of("gone"))
        expect(page.locator("#tiles .reason")).to_contain_text("cannot read the storage")
        expect(page.get_by_text("in a bucket")).to_be_visible()

    def test_a_storage_that_hangs_does_not_hang_airflow(self, site: Site, past: Past, visits: Visits) -> None:
        past.add_images(task_of("does-not-hang"), 1)
        hangs = {SAVED_KEY: saved_entry("hangs", images=6, destination="s3://hangs@bucket/art")}
        past.add_rows({task_of("hangs"): hangs}, at=after(1))
        # Who connects to it waits for an answer that never comes.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            add_s3(site, "hangs", f"http://127.0.0.1:{silent.getsockname()[1]}")
            page = gallery(visits, site, task_of("hangs"))
            silent.settimeout(30)
            connected, _ = silent.accept()
            with connected:
                fine = gallery(visits, site, task_of("does-not-hang"))
                expect(fine.locator("#tiles img")).to_have_js_property("naturalWidth", 480)
                expect(page.locator("#tiles .reason")).to_have_count(6, timeout=30_000)
                expect(page.locator("#tiles .reason").first).to_contain_text("not answer")


class TestHostileManifests:
    def test_prompts_are_text(self, site: Site, past: Past, visits: Visits) -> None:
        past.add_images(task_of("hostile"), 1, prompt=HOSTILE)
        for address in (task_of("hostile").path, task_of("hostile").make_image_path(1)):
            page = visits.open(site, VIEWER, MOUNT + address)
            expect(page.get_by_text("document.title").first).to_be_visible()
            assert "broken" not in page.title()
        assert visits.complaints == []

    @pytest.mark.parametrize(
        "broken",
        ["", "{", "[]", '{"schema": 99, "future": true}', '{"images": [{"name": "../../etc/passwd"}]}'],
        ids=["empty", "half", "a list", "newer", "hostile"],
    )
    def test_a_manifest_that_cannot_be_read_is_explained(
        self, site: Site, past: Past, visits: Visits, broken: str, request: pytest.FixtureRequest
    ) -> None:
        task = task_of(f"manifest-{abs(hash(request.node.name)) % 10**6}")
        manifest = past.add_images(task, 1)
        folder = Path(manifest.images[0].path.removeprefix("file://")).parent
        (folder / f"{manifest.seedream_task_id}-manifest.json").write_text(broken)
        page = visits.open(site, VIEWER, MOUNT + task.make_image_path(1))
        expected = "newer version" if "schema" in broken else "is broken"
        expect(page.get_by_text(expected).first).to_be_visible()


class TestTenThousandImages:
    @pytest.fixture
    def crowd(self, site: Site, past: Past) -> None:
        many = {
            TaskAddress(SHARED_DAG, "crowd", "generate_many", index): {
                SAVED_KEY: saved_entry(f"crowd_{index}", f"one of a crowd {index} " + "x" * 500, images=2)
            }
            for index in range(5000)
        }
        past.add_rows(many, at=after(300))

    def test_the_first_page_is_no_larger_and_memory_stays_bounded(
        self, site: Site, crowd: None, visits: Visits
    ) -> None:
        page = visits.open(site, VIEWER, f"{MOUNT}/?text=one+of+a+crowd")
        expect(page.locator("#tiles > li")).to_have_count(TILES)
        headers = {"Authorization": f"Bearer {site.world.stack.get_token(VIEWER)}"}
        before = _memory(site)
        for text in ("", "one of a crowd 4999", "nowhere to be found"):
            answer = httpx.get(
                f"{site.url}{MOUNT}/", params={"text": text}, headers=headers, timeout=30, trust_env=False
            )
            assert answer.status_code == 200
            assert len(answer.content) < 500_000
        # All results together would be many times as much.
        assert _memory(site) - before < 100 * 2**20


def _memory(site: Site) -> int:
    """Bytes that the api-server holds."""
    process = psutil.Process(site.world.stack.processes["api-server"].pid)
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow behind a path, without workers."""
    base = tmp_path_factory.mktemp("prefixed")
    with airflow_site(base, components=("api-server", "dag-processor"), base_path="/airflow") as site:
        site.world.stack.wait_for_dag(SHARED_DAG)
        yield site


class TestOtherWaysToServe:
    def test_a_base_url_with_a_path(self, prefixed: Site, visits: Visits) -> None:
        past = Past(prefixed)
        past.add_images(task_of("prefixed"), 2, prompt="behind a path")
        page = visits.open(prefixed, VIEWER, task_of("prefixed").tab)
        inside = page.frame_locator("iframe")
        inside.get_by_role("link", name="behind a path, image 1 of 2").click()
        expect(inside.locator("#stage img")).to_have_js_property("naturalWidth", 1024)
        assert visits.complaints == []

    def test_a_second_api_server_shows_the_same(self, prefixed: Site, visits: Visits) -> None:
        from dev.ports import find_free_ports

        Past(prefixed).add_images(task_of("twice"), 1, prompt="seen twice")
        stack = prefixed.world.stack
        (port,) = find_free_ports(1)
        token = stack.get_token(ADMIN)
        stack.env["AIRFLOW__API__PORT"] = str(port)
        stack.start_component("api-server", "second")
        address = f"http://127.0.0.1:{port}/airflow{MOUNT}{task_of('twice').make_thumbnail_path(1)}"
        headers = {"Authorization": f"Bearer {token}"}

        def answers() -> bool:
            try:
                return httpx.get(address, headers=headers, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        stack.wait_until(answers, "the second api-server answers", 120)
