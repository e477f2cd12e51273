"""What a run has cost and saved, by everybody who keeps count."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from dev.postgres import Postgres


@dataclass(frozen=True)
class Books:
    """The accounts of one run.

    :param charged: USD by the sandbox's ledger.
    :param saved: USD by the manifests.
    :param returned: USD by the results in XCom.
    :param recorded: names of the images in the manifests, sorted.
    :param files: names of the image files, sorted.
    """

    charged: Decimal
    saved: Decimal
    returned: Decimal
    recorded: list[str]
    files: list[str]


def books(
    bought: Sequence[Mapping[str, Any]], folder: Path, database: Postgres, dag_id: str, run_id: str
) -> Books:
    """The accounts of a run that saves into a folder of its own.

    :param bought: its tasks in the sandbox's ledger.
    """
    manifests = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    query = f"SELECT value FROM xcom WHERE dag_id='{dag_id}' AND run_id='{run_id}' AND key='return_value'"
    results = [json.loads(row[0]) for row in database.query(query)]
    return Books(
        charged=_sum(task["charged"] for task in bought) - _sum(task["refunded"] for task in bought),
        saved=_sum(manifest["cost_usd"] for manifest in manifests),
        returned=_sum(result["cost_usd"] for result in results),
        recorded=sorted(image["name"] for manifest in manifests for image in manifest["images"]),
        files=sorted(file.name for file in folder.iterdir() if file.suffix != ".json"),
    )


def _sum(amounts: Iterable[float]) -> Decimal:
    """USD to the last digit."""
    return sum((Decimal(str(amount)) for amount in amounts), Decimal(0))
