"""What a converter is: a function from what clients send to what is stored, and the JSON schemas around it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_Value = TypeVar("_Value", covariant=True)
JsonSchema = dict[str, Any]


@dataclass(frozen=True)
class Converter(Generic[_Value]):
    """A function from JSON to a stored value, with the JSON schemas of what it ``takes`` and of what it ``shows``.

    ``takes`` may be wider than the function, where JSON schema has no word for what it checks; never narrower.
    """

    convert: Callable[[Any], _Value]
    takes: JsonSchema
    shows: JsonSchema

    def __call__(self, value: Any) -> _Value:
        """``value`` converted."""
        return self.convert(value)


def described(
    takes: JsonSchema, shows: JsonSchema | None = None
) -> Callable[[Callable[[Any], _Value]], Converter[_Value]]:
    """Make a function a converter; it ``shows`` what it ``takes`` unless said otherwise."""
    return lambda convert: Converter(convert, takes, takes if shows is None else shows)


def any_case(words: Iterable[str]) -> str:
    """A pattern: one of ``words``, in any case. JSON schema's patterns have no flags."""
    return "|".join("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in word) for word in words)


def items(required: JsonSchema, **optional: JsonSchema) -> JsonSchema:
    """A list of objects with these properties."""
    item = {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"type": "array", "items": item}


def or_null(schema: JsonSchema) -> JsonSchema:
    """``schema``, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def short(value: Any) -> str:
    """``value`` as a message names it: at most 512 characters of it."""
    text = str(value)
    return text if len(text) <= 512 else f"{text[:512]}..."
