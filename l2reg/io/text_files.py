"""Text files of others: JSON and YAML are read with one kind of error for all that is wrong."""

import json
from pathlib import Path
from typing import Any

import yaml


def load_json(path: Path) -> Any:
    """Return the content of a JSON file, with or without byte order mark.

    Raises:
        ValueError: If it is no JSON, no UTF-8, or nested too deeply.
        OSError: If the file cannot be opened.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def load_yaml(path: Path) -> Any:
    """Return the content of a YAML file without aliases, by which a small file could be a huge one.

    Raises:
        ValueError: If it is no YAML, no UTF-8, nested too deeply, or has aliases or tags.
        OSError: If the file cannot be opened.
    """
    text = path.read_text(encoding="utf-8")
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"the alias *{event.anchor}")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
