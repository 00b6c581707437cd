"""The page of the configuration, from ``portward.config``: keys and defaults from the classes, meanings from the
comments beside the keys.
"""

import inspect
import re
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from portward.config import Settings
from tools.markdown import table

#: Defaults that differ from machine to machine.
_DEFAULTS = {"agent.host": "the machine's name"}
_TYPES = {str: "string", int: "integer", bool: "boolean", Path: "path", NoneType: "none", dict: "sections"}


def text() -> str:
    """What the page's template leaves to the code."""
    return "".join(_section(name, field) for name, field in Settings.model_fields.items())


def _section(name: str, field: FieldInfo) -> str:
    section = field.annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    meaning = inspect.getdoc(section) or ""
    rows = [_row(name, section, key, found) for key, found in section.model_fields.items()]
    shown = f"\n## [{name}]\n{_sentence(meaning)}\n"
    if rows:
        shown += "\n" + table(("key", "type", "default", "environment variable", "meaning"), rows)
    return shown


def _row(name: str, section: type[BaseModel], key: str, field: FieldInfo) -> tuple[str, ...]:
    default = _DEFAULTS.get(f"{name}.{key}") or _value(field.default)
    kind = _kind(field.annotation) + _bounds(field)
    variable = f"`PORTWARD_{name}__{key}`".upper() if kind != "sections" else ""
    return f"`{key}`", kind, default, variable, _meaning(section, key)


def _sentence(doc: str) -> str:
    text = re.sub(r"^``\[[^`]*``(: | )", "", doc).replace("``", "`")
    return text[:1].upper() + text[1:]


def _meaning(section: type[BaseModel], key: str) -> str:
    """The comment beside the key, in the class or the one that it comes from."""
    for owner in section.__mro__:
        if issubclass(owner, BaseModel) and key in inspect.get_annotations(owner):
            found = re.search(rf"^    {key}: .*?  # (.+)$", inspect.getsource(owner), re.M)
            if found:
                return found[1]
    raise SystemExit(f"{section.__name__}.{key} in portward/config/sections.py has no comment that says what it means")


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is dict:
        return "sections"
    members = get_args(annotation)
    if members:
        return " or ".join(_kind(member) for member in members if hasattr(member, "__mro__") or get_args(member))
    return _TYPES[annotation]


def _bounds(field: FieldInfo) -> str:
    words = {"ge": "from", "gt": "above", "le": "to"}
    found = [f"{words[name]} {getattr(item, name)}" for item in field.metadata for name in words if hasattr(item, name)]
    return f" {' '.join(found)}" if found else ""


def _value(default: Any) -> str:
    match default:
        case None:
            return "none"
        case bool():
            return f"`{str(default).lower()}`"
        case int():
            return f"`{default}`"
        case dict():
            return "none"
        case _:
            return f'`"{default}"`'
