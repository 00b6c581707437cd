"""Ordered rules to a small, exact form that a back end can look up fast. Pure; knows no kernel and no switch."""

from portward.compiler.boxes import BITS, Cells
from portward.compiler.compile import compile_rules
from portward.compiler.evaluate import evaluate
from portward.compiler.form import Element, Field, Form, Hash, Interval, KeyPart, Linear, Ranges, Step, Table

__all__ = [
    "BITS",
    "Cells",
    "Element",
    "Field",
    "Form",
    "Hash",
    "Interval",
    "KeyPart",
    "Linear",
    "Ranges",
    "Step",
    "Table",
    "compile_rules",
    "evaluate",
]
