"""YAML files of users and of other runs: whatever is wrong with one is the same kind of error."""

import re
from pathlib import Path
from typing import Any

import yaml

_MAX_DEPTH = 50
_HEADER = re.compile(r"#\s*@")  # of Hydra, in the first lines
_VALID_HEADER = re.compile(r"#\s*@\s*package\s+\S+\s*")


def load_yaml(path: Path) -> Any:
    """Return the content of a YAML file, see ``parse_yaml``.

    Raises:
        ValueError: If it is no UTF-8, or ``parse_yaml`` refuses its text.
        OSError: If the file cannot be opened.
    """
    return parse_yaml(path.read_text(encoding="utf-8"))


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Aliases are refused: a file of a few lines could stand for more than any memory holds.

    Raises:
        ValueError: If it is no YAML, nested too deeply, or has aliases, tags, keys that occur
            twice, or headers that mean nothing.
    """
    depth = 0
    for line in filter(_HEADER.match, text.splitlines()):
        if not _VALID_HEADER.fullmatch(line):
            raise ValueError(f"the line {line!r}")
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
                raise ValueError("an alias, or too deeply nested")
        _check_keys(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check_keys(node: yaml.Node | None) -> None:
    """Raise a ``ValueError`` if a key occurs twice, of which PyYAML would take the last."""
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        if duplicates := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"keys that occur twice: {', '.join(sorted(duplicates))}")
        for _, value in node.value:
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)
