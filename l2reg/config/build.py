"""Building objects from config: a dict with ``_target_`` is a constructor call.

Only the three scripts at the top level import Hydra; they pass on plain dicts. The same dicts are
stored in checkpoints, which may come from elsewhere: the targets are limited to ``ALLOWED``.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, get_args, get_origin

from l2reg.problems import InputError, Problem, suggest

ALLOWED = ("l2reg.", "torch.nn.", "torch.optim.", "monai.")

_PLAIN = {
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}


def build(node: Any, **extra: Any) -> Any:
    """Return the object that a config node describes.

    Args:
        node: Config node. For a dict with ``_target_``, that class or function is called with the
            other keys as arguments; nested nodes are built first. Lists and other dicts are built
            item by item. Anything else is returned unchanged.
        extra: Further arguments of the outermost call.

    Raises:
        InputError: If a target is not allowed, its arguments are unknown, missing or of the wrong
            type, or its constructor raises a ``ValueError`` or ``TypeError``.
    """
    if isinstance(node, Mapping):
        built = {key: build(value) for key, value in node.items() if key != "_target_"}
        if "_target_" not in node:
            return built
        target = locate(node["_target_"])
        arguments = _with_tuples(target, {**built, **extra})
        _check_arguments(node["_target_"], target, arguments)
        _check_types(node["_target_"], target, arguments)
        try:
            return target(**arguments)
        except (ValueError, TypeError) as error:
            raise error if isinstance(error, InputError) else _invalid_value(node, error) from error
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [build(item) for item in node]
    return node


def locate(name: str) -> Callable[..., Any]:
    """Return the class or function with a dotted name.

    Raises:
        InputError: If it is not defined below ``ALLOWED``, or does not exist.
    """
    module_name, _, attribute = name.rpartition(".")
    value = None
    if name.startswith(ALLOWED):
        try:
            value = getattr(importlib.import_module(module_name), attribute, None)
        except ImportError:
            value = None
    defined_in = getattr(value, "__module__", "") + "."
    if not (inspect.isclass(value) or inspect.isfunction(value)) or not defined_in.startswith(
        ALLOWED
    ):
        raise InputError(
            Problem(
                where=f"_target_: {name}",
                what="cannot be built from a config",
                expected=f"a class or function below {', '.join(ALLOWED)}",
                found=f"{value!r}" if value is not None else "no such name there",
                remedy="correct the name, or add the class or function to l2reg",
            )
        )
    target: Callable[..., Any] = value
    return target


def _check_arguments(name: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise an ``InputError`` if arguments are unknown or missing."""
    parameters = inspect.signature(target).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    required = {key for key, p in parameters.items() if p.default is inspect.Parameter.empty}
    unknown, missing = sorted(set(arguments) - set(parameters)), sorted(required - set(arguments))
    if unknown or missing:
        raise InputError(
            Problem(
                where=f"config of {name}",
                what="has keys that are not its arguments" if unknown else "lacks arguments",
                expected=", ".join(parameters),
                found=", ".join(
                    f"{what} {keys}"
                    for what, keys in (("unknown", unknown), ("missing", missing))
                    if keys
                ),
                remedy=suggest(unknown[0], parameters) if unknown else "add the missing keys",
            )
        )


def _with_tuples(target: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, with YAML's lists as tuples where the target declares tuples."""
    arguments = dict(values)
    for key, parameter in inspect.signature(target).parameters.items():
        annotation = parameter.annotation
        kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        for kind in kinds:
            if get_origin(kind) is tuple and isinstance(values.get(key), list):
                _check_length(key, values[key], len(get_args(kind)))
                arguments[key] = tuple(values[key])
    return arguments


def _check_length(key: str, values: Sequence[Any], length: int) -> None:
    if len(values) != length:
        raise InputError(
            Problem(
                where=f"{key}={list(values)}",
                what="has the wrong number of values",
                expected=f"{length} values",
                found=f"{len(values)}",
                remedy="correct the value on the command line or in its YAML file",
            )
        )


def _check_types(name: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise an ``InputError`` if an argument declared as int, float or bool has another type."""
    for key, parameter in inspect.signature(target).parameters.items():
        plain = _PLAIN.get(parameter.annotation)
        if key in arguments and plain is not None and type(arguments[key]) not in plain[0]:
            raise InputError(
                Problem(
                    where=f"{key}={arguments[key]}",
                    what=f"is of the wrong type for {name}",
                    expected=plain[1],
                    found=f"{arguments[key]!r}",
                    remedy="correct the value on the command line or in its YAML file",
                )
            )


def _invalid_value(node: Mapping[str, Any], error: Exception) -> InputError:
    values = {key: value for key, value in node.items() if not isinstance(value, Mapping | list)}
    values.pop("_target_")
    return InputError(
        Problem(
            where=f"config of {node['_target_']}",
            what="has an invalid value",
            expected=str(error),
            found=", ".join(f"{key}={value}" for key, value in values.items()) or "no plain values",
            remedy="correct the value on the command line or in its YAML file",
        )
    )
