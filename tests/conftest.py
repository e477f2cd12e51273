"""What all tests share: an Airflow home of their own, set before Airflow is imported."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

_HOME = tempfile.mkdtemp(prefix="seedream-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": _HOME,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}
# Another metadata database than SQLite, for tests/compat.
if _database := os.environ.get("SEEDREAM_TEST_DATABASE"):
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = _database

import certifi  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# The first draw of text builds a table of all characters, which takes seconds on a small machine.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def _one_certificate() -> Iterator[None]:
    """Let each HTTP client of this process read one authority's certificate, not all.

    The tests speak to this machine, and reading them all takes 25 ms of CPU for each client.
    """
    end = "-----END CERTIFICATE-----"
    file = Path(_HOME, "authority.pem")
    file.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(file))
        yield


ONE_AIRFLOW = ("tests/callbacks/", "tests/faults/", "tests/ui/")
"""Folders whose tests share an Airflow."""

NO_AIRFLOW = "tests/faults/test_storage.py"
"""The file in one of them that needs none."""

LONGEST_FIRST = (
    "tests/faults/test_key.py",
    "tests/faults/test_purchases.py",
    "tests/faults/test_soak.py",
    "tests/faults/test_triggers.py",
    # Not at the same time as the other soak, which begins later.
    "tests/callbacks/test_soak.py",
    "tests/callbacks/",
    "tests/ui/",
    "tests/e2e/test_examples_with_people.py",
    "tests/e2e/test_ui.py",
    "tests/e2e/test_examples.py",
    "tests/compat/",
    "tests/e2e/",
    "tests/faults/test_storage.py",
)
"""Nobody is left alone with the last hour of work when the others have finished."""


def unit_of_work(nodeid: str) -> str:
    """Return what one process runs as a whole: tests that share an Airflow, an environment or a file."""
    file, _, test = nodeid.partition("::")
    if file == "tests/compat/test_airflow_versions.py":
        return f"{file}[{test.rpartition('[')[2]}"
    if file.startswith(ONE_AIRFLOW) and file != NO_AIRFLOW:
        return file.rpartition("/")[0]
    return file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests: what takes longest comes first, of the rest what has many tests."""
    sizes = Counter(unit_of_work(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[int, int, str]:
        known = (number for number, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start))
        unit = unit_of_work(item.nodeid)
        return next(known, len(LONGEST_FIRST)), -sizes[unit], unit

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Hand out units of work in the order of the tests.

    The marks of pytest-xdist's own ``loadgroup`` are not seen with pytest 9.2 (its issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class InOrder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of_work(nodeid)

    config.option.loadscopereorder = False
    return InOrder(config, log)
