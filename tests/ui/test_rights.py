"""The ground on which the gallery's tests stand: people log in, and Airflow shows each of them their DAGs."""

from __future__ import annotations

import httpx
import pytest

from airflow_provider_seedream.urls import TaskAddress
from dev.airflow_api import User
from tests.ui.browser import Visits, expect, log_in
from tests.ui.past import Past
from tests.ui.site import ADMIN, SECRET_DAG, SHARED_DAG, STRANGER, VIEWER, Site

pytestmark = pytest.mark.long


def dags_of(site: Site, user: User) -> set[str]:
    """The DAGs that Airflow's API lists for a user; who may read none is refused the list."""
    headers = {"Authorization": f"Bearer {site.world.stack.get_token(user)}"}
    answer = httpx.get(f"{site.url}/api/v2/dags", headers=headers, trust_env=False)
    if answer.status_code == httpx.codes.FORBIDDEN:
        return set()
    return {dag["dag_id"] for dag in answer.raise_for_status().json()["dags"]}


class TestEverybodySeesTheirDags:
    def test_through_the_api(self, site: Site, past: Past) -> None:
        assert dags_of(site, ADMIN) >= {SHARED_DAG, SECRET_DAG}
        assert dags_of(site, VIEWER) == {SHARED_DAG}
        assert dags_of(site, STRANGER) == set()

    def test_a_right_can_be_given_and_withdrawn_while_the_server_runs(self, site: Site, past: Past) -> None:
        site.rights.set(VIEWER, [SECRET_DAG])
        assert dags_of(site, VIEWER) == {SECRET_DAG}
        site.rights.set(VIEWER, [])
        assert dags_of(site, VIEWER) == set()

    def test_through_the_pages(self, site: Site, past: Past, visits: Visits) -> None:
        page = visits.open(site, VIEWER, "/dags")
        expect(page.get_by_role("link", name=SHARED_DAG)).to_be_visible()
        expect(page.get_by_role("link", name=SECRET_DAG)).to_have_count(0)


class TestLogin:
    def test_the_form_leads_to_airflows_home(self, site: Site, visits: Visits) -> None:
        page = visits.open(site, None)
        expect(page.get_by_role("heading", name="Sign into Airflow")).to_be_visible()
        log_in(page, site, VIEWER)
        expect(page.get_by_role("link", name="Dags", exact=True)).to_be_visible()


class TestThePast:
    def test_a_task_that_never_ran_is_finished_for_airflow(
        self, site: Site, past: Past, visits: Visits
    ) -> None:
        task = TaskAddress(SHARED_DAG, "long-ago", "generate")
        past.add_images(task, 2)
        assert site.world.instances(SHARED_DAG, "long-ago") == {"generate": "success"}
        saved = site.world.stack.read_xcom(SHARED_DAG, "long-ago", "generate", "seedream_saved")
        assert [image["name"] for image in saved["images"]] == [
            path.name for path in sorted(site.world.images.rglob(f"{saved['seedream_task_id']}-?.png"))
        ]
        page = visits.open(site, VIEWER, task.airflow_path)
        expect(page.get_by_text("generate").first).to_be_visible()
        visits.screenshot(page, "task-of-the-past")
