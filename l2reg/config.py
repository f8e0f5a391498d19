"""From plain dicts to objects: a dict with ``_target_`` is a constructor call.

Only the three scripts at the top level know Hydra; they hand over plain dicts. The same dicts
lie in checkpoints, so what they may call is limited to ``ALLOWED``.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from l2reg.problems import InputError, Problem

ALLOWED = ("l2reg.", "torch.nn.", "torch.optim.", "monai.")

_PLAIN = {
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}


def build(node: Any, **more: Any) -> Any:
    """Return the object that a config node describes.

    Args:
        node: A dict with ``_target_`` becomes that class or function, called with the other keys;
            nested nodes are built first. Lists and other dicts are built item by item. Anything
            else is returned as it is.
        more: Further arguments of the outermost call.

    Raises:
        InputError: If the target is not allowed, does not take one of the keys, or refuses a value.
    """
    if isinstance(node, Mapping):
        built = {key: build(value) for key, value in node.items() if key != "_target_"}
        if "_target_" not in node:
            return built
        target = locate(node["_target_"])
        arguments = {**built, **more}
        _check_arguments(node["_target_"], target, arguments)
        _check_types(node["_target_"], target, arguments)
        try:
            return target(**arguments)
        except (ValueError, TypeError) as error:
            raise error if isinstance(error, InputError) else _refused(node, error) from error
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [build(item) for item in node]
    return node


def locate(name: str) -> Callable[..., Any]:
    """Return the class or function of a dotted name.

    Raises:
        InputError: If it is outside ``ALLOWED``, or does not exist.
    """
    module_name, _, attribute = name.rpartition(".")
    found = None
    if name.startswith(ALLOWED):
        try:
            found = getattr(importlib.import_module(module_name), attribute, None)
        except ImportError:
            found = None
    defined_in = getattr(found, "__module__", "") + "."
    if not (inspect.isclass(found) or inspect.isfunction(found)) or not defined_in.startswith(
        ALLOWED
    ):
        raise InputError(
            Problem(
                where=f"_target_: {name}",
                what="cannot be built from a config",
                expected=f"a class or function below {', '.join(ALLOWED)}",
                found=f"{found!r}" if found is not None else "nothing of that name there",
                remedy="correct the name, or write the part as a module of l2reg",
            )
        )
    target: Callable[..., Any] = found
    return target


def _check_arguments(name: str, target: Callable[..., Any], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(target).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    required = {key for key, p in parameters.items() if p.default is inspect.Parameter.empty}
    unknown, missing = sorted(set(given) - set(parameters)), sorted(required - set(given))
    if unknown or missing:
        raise InputError(
            Problem(
                where=f"config of {name}",
                what="has keys that are not its arguments" if unknown else "lacks arguments",
                expected=", ".join(parameters),
                found=f"unknown {unknown}, missing {missing}",
                remedy=suggest(unknown[0], parameters) if unknown else "add the missing keys",
            )
        )


def _check_types(name: str, target: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse a word where a number is meant, and the like, for arguments of plain types."""
    for key, parameter in inspect.signature(target).parameters.items():
        plain = _PLAIN.get(parameter.annotation)
        if key in given and plain is not None and type(given[key]) not in plain[0]:
            raise InputError(
                Problem(
                    where=f"{key}={given[key]}",
                    what=f"is of the wrong type for {name}",
                    expected=plain[1],
                    found=f"{given[key]!r}",
                    remedy="correct the value on the command line or in its YAML file",
                )
            )


def _refused(node: Mapping[str, Any], error: Exception) -> InputError:
    values = {key: value for key, value in node.items() if not isinstance(value, Mapping | list)}
    values.pop("_target_")
    return InputError(
        Problem(
            where=f"config of {node['_target_']}",
            what="has a value that does not fit",
            expected=str(error),
            found=", ".join(f"{key}={value}" for key, value in values.items()) or "see above",
            remedy="correct the value on the command line or in its YAML file",
        )
    )


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a remedy for a misspelt ``word``."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"use one of: {', '.join(known)}"


def check_keys(name: str, config: Mapping[str, Any]) -> None:
    """Refuse top-level keys that nobody reads, which a ``+key=value`` would add.

    Args:
        name: Stem of the script's own YAML file.
        config: What was composed.

    Raises:
        InputError: If there is such a key.
    """
    known: set[str] = set()
    for stem in {"train", name}:
        content = yaml.safe_load((config_dir() / f"{stem}.yaml").read_text(encoding="utf-8"))
        known |= set(content)
        for entry in content["defaults"]:
            known |= {group.split()[-1] for group in entry} if isinstance(entry, dict) else set()
    for key in sorted(set(config) - known):
        expected = ", ".join(sorted(known - {"defaults", "hydra"}))
        remedy = suggest(key, known)
        raise InputError(Problem(f"{key}=...", f"is no key of {name}.py", expected, key, remedy))


def check_given(name: str, config: Mapping[str, Any], key: str, example: str) -> None:
    """Refuse a config without ``key``, which ``name``.py cannot do without."""
    if config.get(key) is None:
        remedy = f"python {name}.py {example}"
        raise InputError(Problem(f"{name}.py", f"needs {key}=", example, f"no {key}", remedy))


def config_dir() -> Path:
    """Return the folder of the YAML files: packaged in a wheel, at the top level in a checkout."""
    package = Path(__file__).parent
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parent / "configs"


def names_in(group: str) -> list[str]:
    """Return the names that ``<group>=<name>`` can take."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def read_node(group: str, name: str) -> dict[str, Any]:
    """Return the node that ``configs/<group>/<name>.yaml`` adds, as a plain dict.

    For commands that need one part alone, such as ``l2reg check``; nothing is composed.

    Raises:
        InputError: If there is no such file; the message lists those there are.
    """
    path = config_dir() / group / f"{name}.yaml"
    known = names_in(group)
    if name not in known:
        raise InputError(
            Problem(
                where=f"{group}={name}",
                what=f"is not a {group} that l2reg knows",
                expected=", ".join(known),
                found=repr(name),
                remedy=suggest(name, known),
            )
        )
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    node: dict[str, Any] = content.get(group, content)  # task files are laid out globally
    return node
