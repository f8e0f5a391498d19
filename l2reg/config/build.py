"""From plain dicts to objects: a dict with ``_target_`` is a constructor call.

Only the three scripts at the top level know Hydra; they hand over plain dicts. The same dicts
lie in checkpoints, so what they may call is limited to ``ALLOWED``.
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
        arguments = _with_tuples(target, {**built, **more})
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


def _with_tuples(target: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, with YAML's lists as tuples where the target declares tuples."""
    arguments = dict(given)
    for key, parameter in inspect.signature(target).parameters.items():
        annotation = parameter.annotation
        kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        for kind in kinds:
            if get_origin(kind) is tuple and isinstance(given.get(key), list):
                _check_length(key, given[key], len(get_args(kind)))
                arguments[key] = tuple(given[key])
    return arguments


def _check_length(key: str, values: Sequence[Any], length: int) -> None:
    if len(values) != length:
        raise InputError(
            Problem(
                where=f"{key}={list(values)}",
                what="has another length than it must have",
                expected=f"{length} values",
                found=f"{len(values)}",
                remedy="correct the value on the command line or in its YAML file",
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
