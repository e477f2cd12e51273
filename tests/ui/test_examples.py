"""The examples for people who work in the UI, with their hands: a form, and an answer to a question."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from airflow_provider_seedream.urls import TASK_TAB, TaskAddress
from tests.ui.browser import Visits, expect
from tests.ui.site import ADMIN, Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.long

STUDIO, APPROVAL = "seedream_studio", "seedream_approve_and_publish"


class TestTheStudio:
    @pytest.fixture
    def form(self, site: Site, visits: Visits) -> Page:
        """The page of the DAG, with the form open."""
        site.world.stack.wait_for_dag(STUDIO)
        page = visits.open(site, ADMIN, f"/dags/{STUDIO}", height=1500)
        page.get_by_role("button", name="Trigger").first.click()
        expect(page.get_by_text("Run Parameters")).to_be_visible()
        return page

    def test_a_number_beyond_its_limit_becomes_the_limit(self, form: Page) -> None:
        number = form.locator("[name=element_max_images], #element_max_images").first
        number.fill("11")
        number.press("Tab")
        expect(number).to_have_value("10")

    @pytest.mark.parametrize(
        ("field", "mistake"), [("element_prompt", ""), ("element_destination", "images/today")]
    )
    def test_its_form_refuses_a_mistake(
        self, site: Site, visits: Visits, form: Page, field: str, mistake: str
    ) -> None:
        before = len(site.world.ledger()["tasks"])
        element = form.locator(f"[name={field}], #{field}").first
        element.fill(mistake)
        element.press("Tab")
        start = form.get_by_role("dialog").get_by_role("button", name="Trigger")
        if start.is_enabled():
            start.click()
            expect(form.get_by_text(re.compile("Invalid input for param|Bad Request")).first).to_be_visible()
        visits.screenshot(form, f"studio-{field}")
        expect(form.get_by_text("Run Parameters")).to_be_visible()
        assert len(site.world.ledger()["tasks"]) == before

    def test_a_picture_is_a_form_and_a_link_away(self, site: Site, visits: Visits, form: Page) -> None:
        form.locator("[name=element_prompt], #element_prompt").first.fill("a heron in the mist")
        visits.screenshot(form, "studio-form")
        form.get_by_role("dialog").get_by_role("button", name="Trigger").click()
        stack = site.world.stack
        runs = f"/dags/{STUDIO}/dagRuns"
        stack.wait_until(
            lambda: stack.call_api("GET", runs)["total_entries"] > 0, "the form starts a run", 60
        )
        run_id = stack.call_api("GET", runs)["dag_runs"][0]["dag_run_id"]
        assert stack.wait_for_run(STUDIO, run_id) == "success"
        page = visits.open(site, ADMIN, TaskAddress(STUDIO, run_id, "generate").airflow_path)
        expect(page.get_by_text("0.035 USD at most").first).to_be_visible()
        link = page.get_by_role("link", name=re.compile(f"plugin.{TASK_TAB}")).last
        # A click opens a window of its own.
        page.goto(str(link.get_attribute("href")))
        expect(page.frame_locator("iframe").get_by_alt_text("a heron in the mist")).to_be_visible()


class TestTheApproval:
    def test_a_person_sees_the_pictures_and_picks_what_goes_out(self, site: Site, visits: Visits) -> None:
        stack = site.world.stack
        run_id = stack.trigger(APPROVAL, {"max_images": 2, "prompt": "a paper boat"})
        stack.wait_for_task(APPROVAL, run_id, "review", "awaiting_input", "deferred")
        page = visits.open(site, ADMIN, "/required_actions", height=1400)
        page.get_by_role("link", name="Which of these pictures go out?").first.click()
        pictures = page.get_by_role("img", name=re.compile("a paper boat"))
        expect(pictures).to_have_count(2)
        for number in (0, 1):
            expect(pictures.nth(number)).to_have_js_property("naturalWidth", 480)
        visits.screenshot(page, "approval")
        page.get_by_role("button", name="Publish", exact=True).click()
        assert stack.wait_for_run(APPROVAL, run_id) == "success"
        assert site.world.instances(APPROVAL, run_id)["publish"] == "success"
        log = stack.read_task_log(APPROVAL, run_id, "publish")
        assert "Published 2 of 2 pictures" in log
