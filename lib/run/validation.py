"""Validation errors of pydantic as one line: the key, what is wrong, and how to fix it."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

# Keys that hold sections by names of the user's choice.
_NAMED = ("phases", "tasks", "inputs")


def invalid(key: str, problem: str, received: object) -> ValueError:
    """The error to raise in a validator of several keys; `first_problem` names this one."""
    return ValueError(f"@{key}: {problem}. Received: {received!r}")


def first_problem(
    failure: ValidationError, model: type[BaseModel], renamed: Mapping[str, str] | None = None
) -> str:
    """The first wrong key, what is wrong with it, and how many more wrong keys there are.

        pretrain.steps: should be a whole number. Received: 2.5 (and 1 more)

    Args:
        model: the class that was validated.
        renamed: new names of keys by their old ones, both with their sections.
    """
    # Misspelt keys first: a key that is reported as missing may be the same one.
    errors = sorted(failure.errors(), key=lambda error: error["type"] != "extra_forbidden")
    # A key that may be a word or a number has an error for each: they become one report.
    words = {
        _key(error): error["ctx"]["expected"]
        for error in errors
        if error["type"] == "literal_error" and "literal[" in str(error["loc"][-1])
    }
    reports = {}
    for error in errors:
        report = _describe(error, model, renamed or {})
        if error["type"] != "literal_error" and _key(error) in words:
            report = report.replace(": should be ", f": should be {words[_key(error)]} or ", 1)
        reports[_key(error)] = report
    first = next(iter(reports.values()))
    return first + (f" (and {len(reports) - 1} more)" if len(reports) > 1 else "")


def _location(error: Any) -> tuple[Any, ...]:
    """Path of the wrong key, without pydantic's names for the alternatives of a union."""
    location: list[Any] = []
    for part in error["loc"]:
        is_alternative = isinstance(part, str) and (
            "literal[" in part
            or "function-" in part
            or part in ("int", "str", "bool", "constrained-int", "constrained-str", "[key]")
        )
        # A phase or task may have such a name.
        if not is_alternative or (location and location[-1] in _NAMED and part != "[key]"):
            location.append(part)
    return tuple(location)


def _key(error: Any) -> str:
    parts = map(str, _location(error))
    return ".".join(part if part.isprintable() else repr(part) for part in parts) or "(whole file)"


def _describe(error: Any, model: type[BaseModel], renamed: Mapping[str, str]) -> str:
    """One pydantic error as `key: what is wrong and how to fix it. Received: …`."""
    location, key = _location(error), _key(error)
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("@"):
        return str(message[1:])
    if error["type"] == "extra_forbidden":
        if key in renamed:
            return f"{key}: renamed in version 0.2.0; write {renamed[key]}"
        known = _known_keys(location, model)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"the keys here are {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{key}: missing; add it (see the comments in the project's own params.yaml)"
    if error["type"] == "model_type":
        message = "should be a section with keys of its own"
    if error["type"] == "string_type":
        message = "should be text, in quotes where YAML would read a number, true or null"
    if error["type"] == "string_pattern_mismatch":
        message = "should have only letters, digits, - and _, and begin with a letter or digit"
    message = (message[0].lower() + message[1:]).replace("input should", "should")
    received = error["input"]
    shown = "" if isinstance(received, dict) else f". Received: {received!r}"
    return f"{key}: {message}{shown}"


def _known_keys(location: tuple[Any, ...], model: type[BaseModel]) -> list[str]:
    """The keys that the section around `location` may have."""
    section: Any = model
    path = list(location[:-1])
    while path:
        annotation: Any = section.model_fields[path.pop(0)].annotation
        if get_origin(annotation) is dict:  # of sections by name
            annotation = get_args(annotation)[1]
            path.pop(0)
        section = _section(annotation)
    return list(section.model_fields)


def _section(annotation: Any) -> type[BaseModel]:
    """The class of a section that may be null."""
    classes = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
    return next(each for each in classes if issubclass(each, BaseModel))
