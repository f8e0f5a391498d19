"""Checks of the scripts' top-level config keys: unknown and missing ones are errors."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from l2reg.config.allowed import check_trust
from l2reg.config.presets import config_dir, preset_names
from l2reg.config.yaml_files import load_yaml
from l2reg.problems import InputError, Problem, exit_on_input_error, raise_if_any, suggest

_PATHS = frozenset({"init_from", "ckpt", "out"})
_GROUPS = frozenset({"data", "loss", "optimizer", "scheduler", "trainer"})
_PLAIN = re.compile(r"null|true|false|[-+.\d]+(e[-+]?\d+)?", re.IGNORECASE)  # no name of a file
_FOLDER_OPTIONS = ("--config-dir", "-cd", "--config-path", "-cp")


def check_keys(name: str, config: Mapping[str, Any]) -> None:
    """Check the top-level keys of a script's config.

    ``+key=value`` adds unknown ones. Any text would count as true, so that it is no switch.

    Args:
        name: Name of the script and of its YAML file, without suffix.
        config: Composed config.

    Raises:
        InputError: If there is an unknown key, a switch that is not true or false, a path that
            is not text, or trusted packages that are no names.
    """
    known: set[str] = set()
    switches: set[str] = set()
    for stem in {"train", name}:
        content = yaml.safe_load((config_dir() / f"{stem}.yaml").read_text(encoding="utf-8"))
        known |= set(content)
        switches |= {key for key, value in content.items() if isinstance(value, bool)}
        for entry in content["defaults"]:
            known |= {group.split()[-1] for group in entry} if isinstance(entry, dict) else set()
    own = sorted(key for key in known if key != "defaults" and not key.startswith("hydra"))
    for key in sorted(set(config) - known):
        expected = ", ".join(own)
        remedy = suggest(key, [*own, *_keys_of_like_name(key)])
        raise InputError(
            Problem(
                where=f"{key}=...",
                what=f"is not a key of l2reg {name}",
                expected=expected,
                found=key,
                remedy=remedy,
            )
        )

    for keys, kind, expected, remedy in (
        (switches, bool, "true or false", "{key}=true"),
        ({"run_dir"}, str, "the name of a folder", """'{key}="NAME"'"""),
        (_PATHS, str | None, "null or a path; a number needs quotes", """'{key}="NAME"'"""),
        ({"workers"}, int | None, "null or a number of processes", "{key}=1"),
        (_GROUPS, Mapping, "keys and values, as in the files below configs/", "{key}=NAME"),
        ({"mixed"}, Mapping | None, "null or the tasks to mix", "task=mixed mixed.only=[lung]"),
    ):
        raise_if_any(
            Problem(
                where=f"{key}={config[key]}",
                what="has a value of the wrong kind",
                expected=expected,
                found=repr(config[key]),
                remedy=remedy.format(key=key),
            )
            for key in sorted(keys & set(config))
            if not isinstance(config[key], kind)
        )
    check_trust(config.get("trust", []))


def require_key(name: str, config: Mapping[str, Any], key: str, example: str) -> None:
    """Check that a script's config has a value for a key that the script needs.

    Args:
        name: Name of the script, without suffix.
        config: Composed config.
        key: Top-level key that the script needs.
        example: Argument with the key, for the message.

    Raises:
        InputError: If the key is missing or null.
    """
    if config.get(key) is None:
        remedy = f"l2reg {name} {example}"
        raise InputError(
            Problem(
                where=f"l2reg {name}",
                what=f"needs {key}=",
                expected=example,
                found=f"no {key}",
                remedy=remedy,
            )
        )


_QUOTES = (
    "error: a value that holds ~, = or other signs needs two pairs of quotes: "
    """'submission="~/a=b.zip"', 'submission=["~/a.zip"]'"""
)


@contextmanager
def name_nearest_key() -> Iterator[None]:
    """Name the nearest keys that exist after Hydra has refused a key and ended the program.

    Hydra's own message only proposes to add the unknown key. Values that Hydra cannot read are told
    to be quoted. A group that is set to null, other options that Hydra refuses, and Ctrl-C end the
    program with one line.
    """
    try:
        with exit_on_input_error():
            _refuse_empty_words(sys.argv[1:])
            _check_yaml_files(sys.argv[1:])
            yield
    except ValueError as error:  # of Hydra alone, which ends the program for errors of a script
        sys.exit(f"error: {error}")
    except SystemExit as stop:
        refusal = stop.__context__
        if type(refusal).__name__ == "OverrideParseException":
            tqdm.write(_QUOTES, file=sys.stderr)
        match = re.search(r"full_key: (\S+)", str(getattr(refusal, "__cause__", "")))
        if match:
            tqdm.write(nearest_keys(match.group(1)), file=sys.stderr)
        raise


def _refuse_empty_words(arguments: Iterable[str]) -> None:
    """End the program if a value has no key, or a group, such as the model, is null or a number.

    Hydra would show a traceback.
    """
    for argument in arguments:
        group, _, value = argument.partition("=")
        if not group:
            sys.exit(f"error: {argument}: has no key; write key=value without spaces")
        names = preset_names(group) if re.fullmatch(r"\w+", group) else []
        if names and (value == "" or _PLAIN.fullmatch(value)):
            sys.exit(f"error: {argument}: use one of {', '.join(names)}, or leave {group}= out")


@contextmanager
def exit_on_interpolation_error() -> Iterator[None]:
    """Turn a value that OmegaConf cannot resolve, such as ``${nothing}``, into one line."""
    try:
        yield
    except ValueError as error:
        key, reason = getattr(error, "full_key", "config"), str(error).splitlines()[0]
        sys.exit(f"error: {key}: {reason}; write the value itself")


def _check_yaml_files(arguments: Sequence[str]) -> None:
    """Raise an ``InputError`` for the user's YAML files that are none: Hydra shows a traceback."""
    folders = [v for option, v in pairwise(arguments) if option in _FOLDER_OPTIONS]
    folders += [a.split("=", 1)[1] for a in arguments if a.startswith(_FOLDER_OPTIONS) and "=" in a]
    problems = []
    for path in (path for folder in folders for path in sorted(Path(folder).rglob("*.yaml"))):
        try:
            content = load_yaml(path)
            if not isinstance(content, dict | None):
                raise ValueError(f"a {type(content).__name__}")
        except ValueError as error:
            problems.append(_no_yaml(path, error))
    raise_if_any(problems)


def _no_yaml(path: Path, error: Exception) -> Problem:
    return Problem(
        where=str(path),
        what="cannot be read as YAML",
        expected="keys and values, as in the files below configs/",
        found=" ".join(str(error).split())[:300],
        remedy="correct the file",
    )


def nearest_keys(key: str) -> str:
    """Return a remedy for an unknown dotted key: keys of like spelling, else those of its group."""
    known = [other for other in _known_keys() if other != key]  # which another preset may have
    same_name = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
    close = same_name[:3] or difflib.get_close_matches(key, known, n=3, cutoff=0.85)
    close = close or _keys_of_like_name(key)
    if close:
        return f"error: {key}: is not a key; did you mean {' or '.join(close)}?"
    group = key.rpartition(".")[0]
    beside = [other for other in known if other.rpartition(".")[0] == group]
    if not beside:
        return f"error: {key}: is not a key; --cfg job prints all keys"
    return f"error: {key}: is not a key; the keys there are {', '.join(beside)}"


def _keys_of_like_name(key: str) -> list[str]:
    """Return up to three other keys of any group whose last part is spelt like that of ``key``."""
    by_name: dict[str, list[str]] = {}
    for other in _known_keys():
        if other != key:
            by_name.setdefault(other.rpartition(".")[2], []).append(other)
    close = difflib.get_close_matches(key.rpartition(".")[2], by_name, n=1, cutoff=0.8)
    return [other for name in close for other in by_name[name]][:3]


def _known_keys() -> list[str]:
    """Return the dotted keys of all YAML files below ``configs/``."""
    keys: set[str] = set()
    for path in config_dir().rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        group = path.parent.relative_to(config_dir()).as_posix()
        is_global = group == "." or text.startswith("# @package _global_")
        keys |= set(_flatten_keys(yaml.safe_load(text), "" if is_global else group))
    return sorted(keys)


def _flatten_keys(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            dotted = f"{prefix}.{key}" if prefix else str(key)
            yield dotted
            yield from _flatten_keys(value, dotted)
