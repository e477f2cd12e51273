"""What all tests share: an Airflow home of their own, set before Airflow is imported."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
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

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# The first draw of text builds a table of all characters, which takes seconds on a small machine.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Let one process run all tests of a folder that share an Airflow, and of a unit's file.

    The marks of pytest-xdist's own ``loadgroup`` are not seen with pytest 9.2 (its issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByAirflow(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.startswith("tests/unit/") else file.rpartition("/")[0]

    return ByAirflow(config, log)
