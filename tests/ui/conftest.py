"""One Airflow and one browser for all tests of the web interface, and a picture of what a test has left."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ui.browser import Visits, chromium
from tests.ui.past import Past
from tests.ui.site import SECRET_DAG, SHARED_DAG, Site, airflow_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_FAILED = pytest.StashKey[bool]()


# Both end with this folder's last test: while Playwright runs, no other event loop can, and other tests have
# an Airflow of their own.
@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A whole Airflow with the DAGs beside this file."""
    with airflow_site(tmp_path_factory.mktemp("airflow")) as site:
        yield site


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(autouse=True)
def _first_rights(request: pytest.FixtureRequest) -> None:
    """Undo what an earlier test has withdrawn."""
    if "site" in request.fixturenames:
        request.getfixturevalue("site").rights.reset()


@pytest.fixture
def past(site: Site) -> Past:
    """For tasks that are to have finished already."""
    for dag_id in (SHARED_DAG, SECRET_DAG):
        site.world.stack.wait_for_dag(dag_id)
    return Past(site)


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: ``$SEEDREAM_SCREENSHOTS``, or a folder among those of the test run."""
    named = os.environ.get("SEEDREAM_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.getbasetemp() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visits(browser: Browser, screenshots: Path, request: pytest.FixtureRequest) -> Iterator[Visits]:
    """Opens pages; those of a failed test are kept as pictures."""
    visits = Visits(browser, screenshots)
    yield visits
    if request.node.stash.get(_FAILED, False):
        for number, page in enumerate(visits.pages, 1):
            visits.screenshot(page, f"failed-{request.node.name.replace('/', '_')}-{number}")
    visits.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let fixtures know how their test has ended."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report
