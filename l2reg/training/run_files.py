"""Files of a run folder that are read without PyTorch: their names, and parts of their content."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings with its dotted key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


def step_of(line: str) -> float:
    """Return the step of a line of the metrics; infinity if the line is broken."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
