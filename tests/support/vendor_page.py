"""The examples of the vendor's page, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "contract" / "examples"


def example(name: str) -> Any:
    """Return the body of an example."""
    return json.loads((EXAMPLES / f"{name}.json").read_text())
