"""Whether calls that ran at once were answered as if one had come after another.

That order must keep what everybody could see: a call that had been answered before another was sent comes before it.
It is searched as Wing and Gong do (JPDC 1993), with a memory of the dead ends, and tries first what was answered first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from concurrency.effects import after
from concurrency.model import Answer, Call, State

#: Orders that are tried before the search is given up, which is a failure of the test, not of the API.
_LIMIT = 50_000


@dataclass(frozen=True)
class Event:
    """A call, its answer, and when it was sent and answered by one clock, in seconds."""

    call: Call
    answer: Answer
    sent: float
    answered: float


class NotSerialisable(AssertionError):
    """No order explains the answers and what was stored at the end."""


def check_order(start: State, programs: Sequence[Sequence[Event]], end: State) -> None:
    """Make sure that an order of all events leads from ``start`` to ``end``; events of one program keep theirs.

    Raises:
        NotSerialisable: there is none; the message tells how far one gets, and what cannot come next.
    """
    first = tuple(0 for _ in programs)
    stack = [(first, start)]
    known = {(first, start.key())}
    furthest, wanted = stack[0], end.key()
    while stack:
        place, state = stack.pop()
        if sum(place) > sum(furthest[0]):
            furthest = (place, state)
        pending = [
            (program[index], number)
            for number, (program, index) in enumerate(zip(programs, place, strict=True))
            if index < len(program)
        ]
        if not pending and state.key() == wanted:
            return
        horizon = min((event.answered for event, _ in pending), default=0.0)
        for event, number in sorted(pending, key=lambda one: one[0].answered, reverse=True):
            new = after(state, event.call, event.answer) if event.sent <= horizon else None
            if new is not None:
                then = (*place[:number], place[number] + 1, *place[number + 1 :])
                if (then, new.key()) not in known:
                    known.add((then, new.key()))
                    stack.append((then, new))
        assert len(known) < _LIMIT, "the order was not found in time: make the batches smaller"
    raise NotSerialisable(_report(programs, *furthest, end))


def _report(programs: Sequence[Sequence[Event]], place: tuple[int, ...], state: State, end: State) -> str:
    lines = ["no order of the calls explains their answers; the longest one that does stops before these:"]
    for program, index in zip(programs, place, strict=True):
        if index < len(program):
            event = program[index]
            lines += [f"  {event.call}", f"    answered {event.answer}", f"    {state.items.get(event.call.id)}"]
    if len(lines) == 1:
        lines = ["all answers are explained, but not what is stored at the end:"]
        lines += [f"  expected {one}" for one in state.key() - end.key()]
        lines += [f"  stored   {one}" for one in end.key() - state.key()]
    return "\n".join(lines)
