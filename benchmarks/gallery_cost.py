"""Measures what the gallery's first page costs with 10,000 images, compared with 100, in one run.

Everything but HTTP and login: the query of Airflow's metadata database (SQLite here) and the drawing of the
page. The storage is not asked for a page, whatever it holds.

    python benchmarks/gallery_cost.py
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import tracemalloc
from typing import Any

IMAGES_PER_TASK = 2
ROUNDS = 15

LABELS = {
    "few": "first page of 100 images",
    "many": "first page of 10,000 images",
    "pending": "the same and one bought",
    "search": "words in the oldest prompt",
}


def main() -> None:
    """Print time and memory of a page, and the ratios."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        from airflow.settings import Session

        from tests.support.airflow_runs import prepare_database

        prepare_database()
        with Session() as session:
            fill(session, "few", 100)
            fill(session, "many", 10_000)
            buy(session, fill(session, "pending", 10_000))
            session.commit()
            report(session)


def fill(session: Any, dag_id: str, images: int) -> Any:
    """Put a run with finished tasks into the database."""
    from airflow_provider_seedream.storage.index import SAVED_KEY
    from tests.support.metadata_rows import MetadataRows, after, saved_entry

    rows = MetadataRows(session)
    run = rows.run(dag_id, "run")
    for index in range(images // IMAGES_PER_TASK):
        entry = saved_entry(f"task_{index}", f"picture {index} " + "x" * 300, images=IMAGES_PER_TASK)
        rows.task(run, "generate", index, xcoms={SAVED_KEY: entry}, at=after(index / 60))
    return run


def buy(session: Any, run: Any) -> None:
    """Put a task into a run whose images are not saved yet."""
    from airflow_provider_seedream.apixo.records import SUBMISSION_KEY
    from tests.support.metadata_rows import MetadataRows, after, submission

    bought = {SUBMISSION_KEY: submission("task_pending")}
    MetadataRows(session).task(run, "late", state="deferred", xcoms=bought, at=after(10_000))


def report(session: Any) -> None:
    """Measure both in turns."""
    times: dict[str, list[float]] = {name: [] for name in LABELS}
    for _ in range(ROUNDS):
        for name in times:
            start = time.perf_counter()
            render_page(session, name)
            times[name].append(time.perf_counter() - start)
    few = statistics.median(times["few"])
    for name, what in LABELS.items():
        median = statistics.median(times[name])
        print(f"{what:28}{median * 1000:7.1f} ms  {median / few:5.1f} times the first line")
    for name, what in LABELS.items():
        tracemalloc.start()
        render_page(session, name)
        print(f"{what:28}{tracemalloc.get_traced_memory()[1] / 2**20:7.1f} MiB at its most")
        tracemalloc.stop()


def render_page(session: Any, name: str) -> str:
    """Find and draw a page; ``search`` is for a word that only the oldest of the 10,000 has."""
    from airflow_provider_seedream.gallery import queries, rendering
    from airflow_provider_seedream.gallery.view_models import Filters, GalleryView

    filters = Filters(text="picture 0 ") if name == "search" else Filters()
    dag_id = "many" if name == "search" else name
    found = queries.read_page(session, queries.Scope(dag_ids=frozenset([dag_id]), filters=filters))
    session.expire_all()
    return rendering.render_gallery(
        GalleryView(root="/seedream", airflow_root="", tiles=found.tiles, filters=filters)
    )


if __name__ == "__main__":
    main()
