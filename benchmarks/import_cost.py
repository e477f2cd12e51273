"""Measures what a DAG file pays for importing this provider, beyond importing ``airflow.sdk`` itself.

Each figure is the median over fresh interpreters with warm bytecode; the time is taken inside the
interpreter, after ``airflow.sdk`` and what every DAG file uses of it have been imported.

    python benchmarks/import_cost.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 9
LIMIT_MS = 50
MODULES = ("operators.seedream", "sensors.seedream", "hooks.seedream")
PROBE = """
import sys, time
import airflow.sdk
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, BaseHook, task
before = time.perf_counter()
for name in sys.argv[1:]:
    __import__("airflow_provider_seedream." + name, fromlist=["_"])
print((time.perf_counter() - before) * 1000)
"""


def measure_ms(*modules: str) -> float:
    """Return the milliseconds for importing some modules of the provider in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", PROBE, *modules], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table; fail when a module costs more than the limit."""
    measure_ms(*MODULES)
    dearest = 0.0
    for modules in [*((module,) for module in MODULES), MODULES]:
        figure = statistics.median(measure_ms(*modules) for _ in range(RUNS))
        dearest = max(dearest, figure)
        print(f"{' + '.join(modules):60} {figure:6.1f} ms")
    if dearest > LIMIT_MS:
        sys.exit(f"more than {LIMIT_MS} ms")


if __name__ == "__main__":
    main()
