"""Building objects from config: a dict with ``_target_`` is a constructor call.

Only the three scripts at the top level import Hydra; they pass on plain dicts. The same dicts are
stored in checkpoints, which may come from elsewhere: the targets are limited to ``allowed.SLOTS``.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from l2reg.config.allowed import locate
from l2reg.config.argument_types import convert_value, parameters, type_problems
from l2reg.problems import InputError, Problem, raise_if_any, suggest


def build(node: Any, slot: str | None = None, trust: Sequence[str] = (), /, **extra: Any) -> Any:
    """Return the object that a config node describes.

    Args:
        node: Config node. For a dict with ``_target_``, that class is called with the other keys
            as arguments, which are built first. Lists and other dicts are built item by item.
            Anything else is returned unchanged.
        slot: The key of the config that the node is from, such as ``model``, which limits the
            classes that it may name; ``None`` for a node of ``configs/``, which may name any.
        trust: Packages or modules whose classes may be named as well, see ``locate``.
        extra: Further arguments of the outermost call.

    Raises:
        InputError: If a target is not allowed, its arguments are unknown, missing or of the wrong
            type, a value is an interpolation, or a constructor raises a ``ValueError``,
            ``TypeError`` or ``AttributeError``.
    """
    if isinstance(node, Mapping) and "_target_" in node:
        name, target = node["_target_"], locate(node["_target_"], slot, trust)
        built = {key: build(value, key, trust) for key, value in node.items() if key != "_target_"}
        given, known = {**built, **extra}, parameters(target)
        _check_arguments(name, target, given)
        raise_if_any(type_problems(name, target, given))
        arguments = {
            key: convert_value(value, known[key].annotation) if key in known else value
            for key, value in given.items()
        }
        try:
            return target(**arguments)
        except (ValueError, TypeError, AttributeError) as error:
            raise error if isinstance(error, InputError) else _invalid_value(node, error) from error
    if isinstance(node, Mapping):
        return {key: build(value, slot or key, trust) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [build(item, slot, trust) for item in node]
    if isinstance(node, str) and "${" in node:
        raise InputError(_interpolation(node))
    return node


def check_targets(node: Any, slot: str | None = None, trust: Sequence[str] = ()) -> None:
    """Check a config node of which nothing is built: names of classes, types of plain values.

    What is null may be a value that is planned later.

    Args:
        node: See ``build``.
        slot: See ``build``.
        trust: See ``build``.

    Raises:
        InputError: If a target is not allowed, or a value is of the wrong type.
    """
    if isinstance(node, Mapping):
        is_call = "_target_" in node
        if is_call:
            name, target = node["_target_"], locate(node["_target_"], slot, trust)
            plain = {key: value for key, value in node.items() if _is_plain(value)}
            raise_if_any(type_problems(name, target, plain))
        for key, value in node.items():
            if key != "_target_":
                check_targets(value, key if is_call else slot or key, trust)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for item in node:
            check_targets(item, slot, trust)


def _is_plain(node: Any) -> bool:
    """Return whether no object and no null is in a value of a config."""
    if isinstance(node, Mapping):
        return "_target_" not in node and all(map(_is_plain, node.values()))
    return all(map(_is_plain, node)) if isinstance(node, list) else node is not None


def _check_arguments(name: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise an ``InputError`` if arguments are unknown or missing."""
    known = parameters(target)
    required = {key for key, p in known.items() if p.default is inspect.Parameter.empty}
    unknown, missing = sorted(set(arguments) - set(known)), sorted(required - set(arguments))
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        unknown, missing = [key for key in unknown if key.startswith("_")], []  # Hydra's _partial_
    if unknown or missing:
        raise InputError(
            Problem(
                where=f"config of {name}",
                what="has keys that are not its arguments" if unknown else "lacks arguments",
                expected=", ".join(known),
                found=", ".join(
                    f"{what} {keys}"
                    for what, keys in (("unknown", unknown), ("missing", missing))
                    if keys
                ),
                remedy=suggest(unknown[0], known) if unknown else "add the missing keys",
            )
        )


def _invalid_value(node: Mapping[str, Any], error: Exception) -> InputError:
    values = {key: value for key, value in node.items() if not isinstance(value, Mapping | list)}
    name = str(values.pop("_target_"))
    found = ", ".join(f"{key}={value}" for key, value in values.items()) or "no plain values"
    is_own = name.startswith("l2reg.") and type(error) is ValueError  # which say what they expect
    return InputError(
        Problem(
            where=f"config of {name}",
            what="has an invalid value",
            expected=str(error) if is_own else f"values that {name.rpartition('.')[2]} accepts",
            found=found if is_own else f"{found}: {error}",
            remedy="correct the value on the command line or in its YAML file",
        )
    )


def _interpolation(value: str) -> Problem:
    return Problem(
        where=value,
        what="is an interpolation, and only the scripts resolve those of configs/",
        expected="the value itself",
        found=repr(value),
        remedy="write the value that it stands for",
    )
