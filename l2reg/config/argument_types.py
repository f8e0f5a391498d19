"""Types of arguments: whether a value of a config fits an annotation, and a type in words."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from l2reg.problems import Problem

_ACCEPTED: Mapping[object, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    bool: (bool,),
    str: (str, int),  # a name of digits is an integer in YAML; ``convert_value`` makes it text
    Path: (str, Path),
    NoneType: (NoneType,),
}
_WORDS = {  # for one value, and for several
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
    NoneType: ("null", "null"),
    Any: ("any value", "any values"),
    tuple: ("a list", "lists"),
}


def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function, with types for annotations that are text.

    They stay text where a name in them is unknown at run time.
    """
    try:
        return inspect.signature(target, eval_str=True).parameters
    except (NameError, AttributeError, TypeError):
        return inspect.signature(target).parameters


def type_problems(
    name: str, target: Callable[..., Any], arguments: Mapping[str, Any]
) -> list[Problem]:
    """Return a problem for every argument that is not of the type which the target declares.

    Args:
        name: Name of the target, for the message.
        target: Class or function. The default of a parameter fits it, whatever its type says.
        arguments: Its arguments; unknown ones are not looked at.
    """
    return [
        _misfit(key, name, arguments[key], parameter.annotation)
        for key, parameter in parameters(target).items()
        if key in arguments
        and arguments[key] is not parameter.default
        and not fits_type(arguments[key], parameter.annotation)
    ]


def _misfit(key: str, name: str, value: object, annotation: Any) -> Problem:
    """Return the problem of a value; of one that has keys, that of the first key at fault."""
    if get_origin(annotation) is Mapping and isinstance(value, Mapping):
        kind = get_args(annotation)[1]
        inner = next(each for each, v in value.items() if not fits_type(v, kind))
        return _misfit(f"{key}.{inner}", name, value[inner], kind)
    takes_paths = annotation is Path or Path in get_args(annotation)
    return Problem(
        where=f"{key}={value}",
        what=f"is of the wrong type for {name}",
        expected=describe_type(annotation),
        found=f"{value!r}",
        remedy=f"""'{key}="{value}"', if it is a name: a number needs two pairs of quotes"""
        if takes_paths and isinstance(value, int | float)
        else "correct the value on the command line or in its YAML file",
    )


def fits_type(value: object, annotation: Any) -> bool:
    """Return whether a value is of a type.

    An integer is a number, true and false are none, and text is no list. Lists stand for tuples,
    which YAML lacks. Every value fits an annotation of a kind that is not known here.

    Args:
        value: The value.
        annotation: The type.
    """
    if annotation in _ACCEPTED:
        accepted = _ACCEPTED[annotation]
        return isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))
    generic = _GENERIC.get(get_origin(annotation))
    if generic is not None:
        return generic[0](value, get_args(annotation))
    return (
        not isinstance(annotation, type) or annotation is tuple or _is_instance(value, annotation)
    )


def convert_value(value: Any, annotation: Any) -> Any:
    """Return a value of YAML as its type has it: lists as tuples, integers as text.

    Args:
        value: The value; one that does not fit is returned as it is.
        annotation: The type.
    """
    is_union = get_origin(annotation) in (Union, UnionType)
    kinds = get_args(annotation) if is_union else (annotation,)
    if type(value) is int and str in kinds and not {int, float} & set(kinds):
        return str(value)
    for origin, inner in ((get_origin(kind), get_args(kind)) for kind in kinds):
        if origin is tuple and isinstance(value, list) and _fits_tuple(value, inner):
            return tuple(map(convert_value, value, _item_types(inner, len(value))))
        if origin is Sequence and isinstance(value, list):
            return [convert_value(item, inner[0]) for item in value]
        if origin is Mapping and isinstance(value, Mapping):
            return {key: convert_value(item, inner[1]) for key, item in value.items()}
    return value


def describe_type(annotation: Any, *, several: bool = False) -> str:
    """Return a type in words, such as ``a list of integers or null``.

    Args:
        annotation: The type.
        several: Whether the words are those of several values.
    """
    if annotation in _WORDS:
        return _WORDS[annotation][int(several)]
    generic = _GENERIC.get(get_origin(annotation))
    if generic is not None:
        return generic[1](get_args(annotation), several=several)
    return f"the keys of {getattr(annotation, '__name__', annotation)}"


def _fits_list(value: Any, kinds: tuple[Any, ...]) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return is_list and all(fits_type(item, kinds[0]) for item in value)


def _fits_tuple(value: Any, kinds: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    types = _item_types(kinds, len(value))
    return len(value) == len(types) and all(map(fits_type, value, types))


def _item_types(kinds: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    """Return the type of each item of a tuple, which may have any length: ``tuple[int, ...]``."""
    return kinds[:1] * length if kinds[-1:] == (...,) else kinds


def _fits_mapping(value: Any, kinds: tuple[Any, ...]) -> bool:
    return isinstance(value, Mapping) and all(fits_type(v, kinds[1]) for v in value.values())


def _describe_union(kinds: tuple[Any, ...], *, several: bool) -> str:
    told = [
        kind
        for kind in kinds
        if not (kind is str and Path in kinds)
        and getattr(kind, "__module__", "") != "torch"  # tensors, which no config can name
    ]
    return " or ".join(describe_type(kind, several=several) for kind in told)


def _describe_list(kinds: tuple[Any, ...], *, several: bool) -> str:
    return f"{'lists' if several else 'a list'} of {describe_type(kinds[0], several=True)}"


def _describe_tuple(kinds: tuple[Any, ...], *, several: bool) -> str:
    if kinds[-1:] == (...,):
        return _describe_list(kinds, several=several)
    what = f"{len(kinds)} {describe_type(kinds[0], several=True)}"
    return f"lists of {what} each" if several else f"a list of {what}"


_UNION = (lambda value, kinds: any(fits_type(value, kind) for kind in kinds), _describe_union)
_GENERIC: Mapping[Any, tuple[Callable[[Any, Any], bool], Callable[..., str]]] = {
    Union: _UNION,
    UnionType: _UNION,
    Literal: (
        lambda value, kinds: value in kinds,
        lambda kinds, **_: " or ".join(map(str, kinds)),
    ),
    Sequence: (_fits_list, _describe_list),
    tuple: (_fits_tuple, _describe_tuple),
    Mapping: (
        _fits_mapping,
        lambda kinds, **_: f"keys whose values are {describe_type(kinds[1], several=True)}",
    ),
}


def _is_instance(value: object, kind: type) -> bool:
    try:
        fits = isinstance(value, kind)
    except TypeError:  # a protocol of which only type checkers know
        return True
    is_plain = isinstance(value, str | int | float | Sequence | Mapping | NoneType)
    return fits or (getattr(kind, "_is_protocol", False) and not is_plain)  # as far as it is used
