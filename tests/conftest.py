"""What all tests share: an Airflow home of their own, set before Airflow is imported."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

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

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# The first draw of text builds a table of all characters, which takes seconds on a small machine.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let one process run all tests of a folder that share an Airflow (pytest-xdist, loadgroup)."""
    for item in items:
        folder = item.path.relative_to(config.rootpath / "tests").parts[0]
        if folder == "e2e" or item.get_closest_marker("long"):
            item.add_marker(pytest.mark.xdist_group(folder))
