"""Does the main job on this machine: sandbox, a real Airflow, three example DAGs, and what they keep.

Everything stays in one folder, ``.demo`` inside the clone. No account and no key are needed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_seedream.urls import MOUNT, make_run_path
from dev.airflow_stack import AirflowStack
from dev.contact_sheet import write_contact_sheet
from dev.local_sandbox import KEY, run_sandbox
from dev.terminal import Clock, end_on_signals

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
TIME_SCALE = 0.4
DAGS = ("seedream_quickstart", "seedream_submit_wait_download", "seedream_product_catalog")
RUN_SECONDS = 300


def describe_connection(base_url: str) -> str:
    """Return the connection ``seedream_default`` as Airflow reads it from the environment."""
    return json.dumps({"conn_type": "seedream", "host": base_url, "password": KEY})


def follow(stack: AirflowStack, runs: dict[str, str], clock: Clock) -> None:
    """Print every change of every task until all runs have ended.

    :raises SystemExit: a run failed, or took too long.
    """
    seen: dict[tuple[str, str, int], str] = {}
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        states = {dag_id: stack.get_run_state(dag_id, run_id) for dag_id, run_id in runs.items()}
        for dag_id, run_id in runs.items():
            for ti in stack.list_task_instances(dag_id, run_id):
                _say_change(seen, dag_id, ti, clock)
        if all(state in ("success", "failed") for state in states.values()):
            if failed := [dag_id for dag_id, state in states.items() if state == "failed"]:
                raise SystemExit(f"failed: {', '.join(failed)}; logs are in {stack.home / 'logs'}")
            return
        time.sleep(1)
    raise SystemExit(f"not finished after {RUN_SECONDS} s; logs are in {stack.home}")


def _say_change(seen: dict[tuple[str, str, int], str], dag_id: str, ti: dict[str, Any], clock: Clock) -> None:
    key = (dag_id, ti["task_id"], ti["map_index"])
    if ti["state"] and seen.get(key) != ti["state"]:
        seen[key] = ti["state"]
        index = f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""
        clock.say(f"{dag_id}.{ti['task_id']}{index}: {ti['state']}")


@dataclass(frozen=True)
class SavedFile:
    """One line of the closing table."""

    path: Path
    pixels: str
    size: int
    cost: float


def read_saved_files(images: Path) -> list[SavedFile]:
    """Return the files that the manifests under the destination promise."""
    files = []
    for manifest in sorted(images.rglob("*manifest.json")):
        task = json.loads(manifest.read_text())
        for image in task["images"]:
            path = Path(image["path"].removeprefix("file://"))
            assert path.stat().st_size == image["bytes"]
            files.append(
                SavedFile(
                    path=path,
                    pixels=f"{image['width']}x{image['height']}",
                    size=image["bytes"],
                    cost=task["cost_usd"] / task["delivered"],
                )
            )
    return files


def print_summary(files: list[SavedFile], ledger: dict[str, Any], base: Path) -> None:
    """Print a table of what was saved, and what the sandbox charged for it."""
    width = max(len(str(file.path.relative_to(base))) for file in files)
    print(f"\n{'file':{width}}  {'pixels':>9}  {'bytes':>9}  {'USD':>5}")
    for file in files:
        print(f"{file.path.relative_to(base)!s:{width}}  {file.pixels:>9}  {file.size:>9,}  {file.cost:.3f}")
    account = ledger["accounts"][KEY]
    polls = [task["polls"] for task in ledger["tasks"]]
    net = account["charged"] - account["refunded"]
    print(
        f"\n{len(files)} images, {sum(file.cost for file in files):.3f} USD by the manifests; "
        f"the sandbox charged {net:.3f} USD and was polled {sum(polls) / len(polls):.1f} times per task."
    )


def count_shown_images(stack: AirflowStack, runs: dict[str, str]) -> int:
    """Count the images of some DAG runs that the gallery in Airflow's web interface shows."""
    headers = {"Authorization": f"Bearer {stack.get_token()}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as browser:
        pages = [
            browser.get(f"{MOUNT}{make_run_path(dag_id, run_id)}").text for dag_id, run_id in runs.items()
        ]
        tiles = [tile for page in pages for tile in re.findall(r'src="([^"]+/thumbnail)"', page)]
        return [browser.get(tile).headers["Content-Type"] for tile in tiles].count("image/webp")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-scale", type=float, default=TIME_SCALE, help="factor on generation times")
    parser.add_argument("--home", type=Path, default=HOME, help="folder for everything that the demo leaves")
    arguments = parser.parse_args()
    home: Path = arguments.home.resolve()
    images, sheet = home / "images", home / "contact-sheet.png"
    end_on_signals()
    clock = Clock()
    shutil.rmtree(images, ignore_errors=True)
    with run_sandbox(arguments.time_scale, home / "sandbox.log") as base_url:
        clock.say(f"sandbox ready at {base_url}; starting Airflow")
        env = {
            "AIRFLOW_CONN_SEEDREAM_DEFAULT": describe_connection(base_url),
            "AIRFLOW_VAR_SEEDREAM_DESTINATION": images.as_uri(),
        }
        with AirflowStack(home / "airflow", ROOT / "dags_examples", env) as stack:
            clock.say(f"Airflow ready at {stack.url}; triggering {len(DAGS)} DAGs")
            runs = {dag_id: stack.trigger(dag_id) for dag_id in DAGS}
            follow(stack, runs, clock)
            ledger = httpx.get(base_url.removesuffix("/api/v1") + "/sandbox/ledger", trust_env=False).json()
            shown = count_shown_images(stack, runs)
            clock.say(f"all runs succeeded, and the gallery shows {shown} images; stopping Airflow")
    files = read_saved_files(images)
    write_contact_sheet([(file.path, f"{file.pixels}  {file.path.name}") for file in files], sheet)
    print_summary(files, ledger, home)
    print(f"Everything is in {home}; the contact sheet is {sheet}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(1)
