"""The way from rules to a form: boxes, without those that are never first, in steps. One table after the other."""

from collections.abc import Sequence

from portward.compiler.boxes import tables
from portward.compiler.form import Element, Form, Table
from portward.compiler.overlap import Places, as_members, places, reachable, relations
from portward.compiler.steps import cut
from portward.model import Rule


def compile_rules(rules: Sequence[Rule], *, chained: int = 4, lookups: bool = True) -> Form:
    """``rules``, first match first, compiled.

    ``evaluate(compile_rules(rules), packet, sets)`` is the place of the first enabled rule that matches ``packet``,
    always, and whatever the members of the sets are.
    Any list compiles: time grows with the square of its length at worst, by the bit, and so does memory; the form
    itself never has more than six elements a rule. No table has more than ``chained`` steps that lead to buckets of
    more than a verdict: back ends can only go so many jumps deep. Without ``lookups`` there are no steps, only what is
    in ``Table.ordered``: for back ends that have priorities.
    """
    made = []
    for version, protocol, elements in tables(rules):
        boxes = [element.box for element in elements]
        overlapping, holding = relations(boxes)
        conditional = _only_within_sets(elements, holding)
        kept = reachable(boxes, overlapping, holding, conditional)
        steps, cost = cut(version, elements, overlapping, kept, chained=chained) if lookups else ((), 0.0)
        made.append(Table(version, protocol, tuple(elements[place] for place in kept), steps, cost))
    reached = {element.rule for table in made for element in table.ordered}
    return Form(tuple(made), frozenset(range(len(rules))) - reached)


def _only_within_sets(elements: Sequence[Element], holding: list[Places]) -> Places:
    """The places of elements that name address sets; they hold others of the same sets alone."""
    conditional = as_members([place for place, element in enumerate(elements) if element.sets])
    if conditional:
        for place, element in enumerate(elements):
            for other in places(holding[place] & conditional):
                if not set(elements[other].sets) <= set(element.sets):
                    holding[place] ^= 1 << other
    return conditional
