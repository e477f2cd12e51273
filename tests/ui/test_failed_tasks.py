"""What a person reads on Airflow's page of a task that has failed."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from airflow_provider_seedream.urls import TaskAddress
from tests.ui.browser import Visits, expect
from tests.ui.site import ADMIN, Site

pytestmark = pytest.mark.long

DAG_ID = "gallery_failing"

LAST_LINES: Mapping[str, tuple[str, str, str]] = {
    "wrong_key": ("Put a valid APIXO key", "nothing by this try", "none, it could not help"),
    "no_connection": ("airflow connections add nobody", "nothing by this try", "none, it could not help"),
    "refused_content": ("Change the prompt", "nothing for the task that failed", "none, it could not help"),
    "unwritable": ("file:///proc/seedream", "nothing by this try", "none, it could not help"),
    "over_budget": ("max_cost", "nothing by this try", "none, it could not help"),
    "too_late": ("did not finish by its deadline", "at most 0.035 USD for task", "finish the job at no cost"),
    "expired": ("15 days", "at most 0.035 USD for task", "finish the job at no cost"),
    "too_few": ("They are saved, see", "at most 0.070 USD for task", "none, it could not help"),
}
"""By task: what happened and what to do about it, what it cost, and what a retry does."""


@pytest.fixture(scope="module")
def run_id(site: Site) -> str:
    """A run in which all of them have failed."""
    stack = site.world.stack
    run_id = stack.trigger(DAG_ID)
    assert stack.wait_for_run(DAG_ID, run_id) == "failed"
    assert set(site.world.instances(DAG_ID, run_id).values()) == {"failed"}
    return run_id


@pytest.mark.parametrize("task_id", LAST_LINES)
def test_the_log_says_what_happened_what_it_cost_and_what_to_do(
    site: Site, visits: Visits, run_id: str, task_id: str
) -> None:
    page = visits.open(site, ADMIN, TaskAddress(DAG_ID, run_id, task_id).airflow_path)
    expect(page.get_by_text("Task failed with exception")).to_be_visible()
    log = " ".join(re.findall(r"ERROR - (.*)", page.locator("main, body").last.inner_text()))
    openings = ("What happened: ", "What it cost: ", "What a retry does: ")
    told = re.split("|".join(openings), log.partition("Task failed with exception")[0])[1:]
    for said, words in zip(told, LAST_LINES[task_id], strict=True):
        assert words in said
    for opening in openings:
        # Airflow's page breaks no lines: what is right of the window is not read.
        box = page.get_by_text(opening).first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 1250
    visits.screenshot(page, f"failed-task-{task_id}")
