"""The gallery as a person meets it: in Airflow's own pages, in a browser."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_provider_seedream.gallery.queries import TILES
from airflow_provider_seedream.storage.index import SAVED_KEY
from airflow_provider_seedream.urls import MOUNT, RUN_TAB, TASK_TAB, TaskAddress, make_run_path
from tests.support.metadata_rows import START, after, saved_entry
from tests.ui.browser import Visits, expect
from tests.ui.past import Past
from tests.ui.site import ADMIN, SECRET_DAG, SHARED_DAG, STRANGER, VIEWER, Site

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Page

pytestmark = pytest.mark.long

BROWSE = f"{MOUNT}/"


def task_of(run_id: str, task_id: str = "generate", map_index: int = -1) -> TaskAddress:
    return TaskAddress(SHARED_DAG, run_id, task_id, map_index)


def frame(page: Page) -> FrameLocator:
    """What Airflow's page shows of the gallery."""
    return page.frame_locator("iframe")


def all_images_are_drawn(where: Page | FrameLocator, count: int) -> None:
    """Wait until so many thumbnails are whole."""
    images = where.locator("#tiles img")
    expect(images).to_have_count(count)
    for number in range(count):
        images.nth(number).scroll_into_view_if_needed()
        expect(images.nth(number)).to_have_js_property("naturalWidth", 480)


class TestInsideAirflow:
    """The tabs on tasks and runs, and the page under Browse."""

    def test_a_task_has_a_tab_with_its_images(self, site: Site, past: Past, visits: Visits) -> None:
        past.add_images(task_of("tab"), 3, prompt="three foxes in the snow")
        page = visits.open(site, VIEWER, task_of("tab").airflow_path)
        page.get_by_role("link", name="Images").click()
        all_images_are_drawn(frame(page), 3)
        expect(frame(page).get_by_alt_text("three foxes in the snow, image 2 of 3")).to_be_visible()
        expect(frame(page).get_by_text("3 images · 0.105 USD")).to_be_visible()
        visits.screenshot(page, "gallery-task-tab")
        assert visits.complaints == []

    def test_so_has_a_dag_run_with_all_its_mapped_tasks(self, site: Site, past: Past, visits: Visits) -> None:
        for index in (0, 1):
            past.add_images(task_of("mapped", "generate_many", index), 1, prompt=f"animal {index}")
        page = visits.open(site, VIEWER, make_run_path(SHARED_DAG, "mapped"))
        page.get_by_role("link", name="Images").click()
        all_images_are_drawn(frame(page), 2)
        one = visits.open(site, VIEWER, task_of("mapped", "generate_many", 1).tab)
        expect(frame(one).locator("#tiles > li")).to_have_count(1)
        expect(frame(one).get_by_text("animal 1")).to_be_visible()

    def test_the_menu_leads_to_the_latest_images_of_all_dags(
        self, site: Site, past: Past, visits: Visits
    ) -> None:
        past.add_images(task_of("menu"), 1, prompt="from the menu", at=after(60))
        page = visits.open(site, VIEWER, "/")
        page.get_by_role("button", name="Browse").click()
        page.get_by_role("menuitem", name="Seedream images").click()
        expect(frame(page).get_by_text("from the menu")).to_be_visible()
        visits.screenshot(page, "gallery-browse")

    def test_a_task_of_another_kind_says_politely_that_it_has_none(
        self, site: Site, past: Past, visits: Visits
    ) -> None:
        task = task_of("polite", "nothing_of_ours")
        past.add_task(task, operator="EmptyOperator")
        page = visits.open(site, VIEWER, task.tab)
        expect(frame(page).get_by_role("heading", name="No Seedream images here")).to_be_visible()

    def test_a_click_opens_the_whole_image_with_its_manifest(
        self, site: Site, past: Past, visits: Visits
    ) -> None:
        manifest = past.add_images(task_of("click"), 2, prompt="a lighthouse at dusk")
        page = visits.open(site, VIEWER, task_of("click").tab)
        inside = frame(page)
        inside.get_by_role("link", name="a lighthouse at dusk, image 1 of 2").click()
        expect(inside.get_by_role("heading", name="Image 1 of 2")).to_be_visible()
        expect(inside.locator("#stage img")).to_have_js_property("naturalWidth", 1024)
        expect(inside.get_by_text(manifest.images[0].sha256).first).to_be_visible()
        visits.screenshot(page, "gallery-image")
        page.keyboard.press("ArrowRight")
        expect(inside.get_by_role("heading", name="Image 2 of 2")).to_be_visible()
        inside.get_by_role("link", name="Back to the gallery").click()
        expect(inside.locator("#tiles > li")).to_have_count(2)
        assert visits.complaints == []

    def test_the_theme_is_airflows_and_follows_it(self, site: Site, past: Past, visits: Visits) -> None:
        past.add_images(task_of("theme"), 1)
        page = visits.open(site, VIEWER, task_of("theme").tab, dark=True)
        html = frame(page).locator("html")
        expect(html).to_have_attribute("data-theme", "dark")
        visits.screenshot(page, "gallery-dark")
        page.evaluate("document.documentElement.classList.replace('dark', 'light')")
        expect(html).to_have_attribute("data-theme", "light")


class TestWhileItIsGenerated:
    """A real task, on a real scheduler and triggerer."""

    @pytest.fixture(autouse=True)
    def slow(self, site: Site) -> None:
        site.world.stack.wait_for_dag(SHARED_DAG)

    def test_the_tile_says_so_and_fills_in_by_itself(self, site: Site, visits: Visits) -> None:
        prompt = "a robot in a greenhouse [[seconds:9000]]"
        stack = site.world.stack
        run_id = stack.trigger(SHARED_DAG, {"prompt": prompt})
        stack.wait_for_task(SHARED_DAG, run_id, "generate", "deferred")
        task = task_of(run_id)
        page = visits.open(site, VIEWER, f"{task.airflow_path}/details")
        # The button is there while the task waits, and leads to the tab.
        page.get_by_role("link", name="Gallery", exact=True).click()
        expect(page).to_have_url(re.compile(f"/plugin/{TASK_TAB}"))
        tile = frame(page).locator("#tiles > li")
        expect(tile).to_have_attribute("data-state", "GENERATING")
        expect(tile.get_by_text("0.035 USD reserved")).to_be_visible()
        visits.screenshot(page, "gallery-generating")
        site.world.clock.put_forward(9000)
        stack.wait_for_task(SHARED_DAG, run_id, "generate", "success")
        expect(tile).to_have_attribute("data-state", "image", timeout=30_000)
        expect(frame(page).get_by_text("1 image is ready")).to_have_count(1)

    def test_mapped_tasks_have_their_own_button(self, site: Site, visits: Visits) -> None:
        stack = site.world.stack
        run_id = stack.trigger(SHARED_DAG)
        stack.wait_for_task(SHARED_DAG, run_id, "generate_many", "deferred", "success", map_index=1)
        page = visits.open(site, VIEWER, f"{task_of(run_id, 'generate_many', 1).airflow_path}/details")
        button = page.get_by_role("link", name="Gallery", exact=True)
        expect(button).to_have_attribute("href", re.compile(f"/mapped/1/plugin/{TASK_TAB}$"))
        stack.wait_for_run(SHARED_DAG, run_id)
        gallery = visits.open(site, VIEWER, f"{make_run_path(SHARED_DAG, run_id)}/plugin/{RUN_TAB}")
        expect(frame(gallery).locator('#tiles > li[data-state="image"]')).to_have_count(3)


class TestWhoMaySee:
    def test_pages_show_each_reader_their_dags(self, site: Site, past: Past, visits: Visits) -> None:
        secret = TaskAddress(SECRET_DAG, "secret", "generate")
        past.add_images(secret, 1, prompt="our next product", at=after(90))
        expect(visits.open(site, ADMIN, BROWSE).get_by_text("our next product")).to_be_visible()
        page = visits.open(site, VIEWER, BROWSE)
        expect(page.get_by_role("heading", name="Seedream images")).to_be_visible()
        expect(page.get_by_text("our next product")).to_have_count(0)
        refused = visits.open(site, VIEWER, MOUNT + secret.path)
        expect(refused.get_by_role("heading", name="You may not see these images")).to_be_visible()
        nobody = visits.open(site, None, MOUNT + secret.path)
        expect(nobody.get_by_role("heading", name="You are not logged in")).to_be_visible()
        stranger = visits.open(site, STRANGER, BROWSE)
        expect(stranger.get_by_role("heading", name="No images yet")).to_be_visible()

    def test_a_right_that_is_withdrawn_empties_the_open_page(
        self, site: Site, past: Past, visits: Visits
    ) -> None:
        past.add_images(task_of("withdrawn"), 1, prompt="a fox to forget")
        page = visits.open(site, VIEWER, MOUNT + task_of("withdrawn").path)
        all_images_are_drawn(page, 1)
        site.rights.set(VIEWER, [])
        # As when the person comes back to this window.
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.get_by_role("heading", name="These images are no longer shown")).to_be_visible()
        expect(page.get_by_text("a fox to forget")).to_have_count(0)
        expect(page.locator("img")).to_have_count(0)


class TestFinding:
    def test_by_words_by_dag_and_page_by_page(self, site: Site, past: Past, visits: Visits) -> None:
        many = {
            task_of("many", "generate_many", index): {
                SAVED_KEY: saved_entry(f"many_{index}", f"owl number {index}")
            }
            for index in range(TILES + 5)
        }
        past.add_rows(many, at=after(120))
        page = visits.open(site, VIEWER, BROWSE)
        page.get_by_label("Prompt").fill("OWL NUMBER")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#tiles > li")).to_have_count(TILES)
        page.get_by_role("link", name="Older").click()
        expect(page.locator("#tiles > li")).to_have_count(5)
        page.get_by_role("link", name="Newest").click()
        page.get_by_label("From").fill(f"{START + timedelta(days=1):%Y-%m-%d}")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("heading", name="No image matches")).to_be_visible()
        page.get_by_role("link", name="Clear the filters").click()
        page.get_by_label("DAG").select_option(SHARED_DAG)
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#tiles > li").first).to_be_visible()


class TestOnEveryScreen:
    @pytest.mark.parametrize("width", [360, 768, 2560])
    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    def test_nothing_is_cut_off(self, site: Site, past: Past, visits: Visits, width: int, dark: bool) -> None:
        task = task_of(f"screens-{width}-{dark}")
        past.add_images(task, 4, prompt="x" * 3000, at=after(150))
        page = visits.open(site, VIEWER, BROWSE, width=width, dark=dark)
        all_images_are_drawn_first(page)
        visits.screenshot(page, f"gallery-{width}-{'dark' if dark else 'light'}")
        for address in (BROWSE, MOUNT + task.make_image_path(1)):
            page.goto(site.url + address)
            assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_every_tile_is_reached_and_opened_by_keyboard(
        self, site: Site, past: Past, visits: Visits
    ) -> None:
        past.add_images(task_of("keys"), 2, prompt="by keyboard")
        page = visits.open(site, VIEWER, MOUNT + task_of("keys").path)
        page.get_by_role("link", name="by keyboard, image 1 of 2").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Image 2 of 2")).to_be_visible()


def all_images_are_drawn_first(page: Page) -> None:
    """What is below the window is loaded when it is scrolled to."""
    for number in range(4):
        expect(page.locator("#tiles img").nth(number)).not_to_have_js_property("naturalWidth", 0)
