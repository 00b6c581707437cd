"""What a step costs a packet, in nanoseconds, estimated. The constants come from measurements of nftables.

Only their ratios matter: they choose between shapes that are all exact. Measured on Linux 6.18 with nft 1.0.6 beside
250 ns for forwarding a packet without rules: docs/design/compiler.md.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from math import log2

from portward.compiler.boxes import BITS, Cells, whole
from portward.compiler.form import Element, Hash, Interval, Linear, Ranges, Step
from portward.model import IPVersion

_COMPARISON = 4.5  # of a field with one value
_MASKED_COMPARISON = 7.5  # of a field with a prefix or a range
_SET = 60.0  # of an address with a set whose members may change
_GOTO = 12.0
_HASH = 60.0
_HASH_PART = 10.0
_BUCKET_CHAIN = 0.15  # no time of a packet: what a bucket of its own takes to install, in memory and to take away
_SAMPLED_BUCKETS = 64
_SAMPLED_INTERVALS = 512
_TREE = 60.0  # intervals of one field are a red-black tree
_TREE_LEVEL = 15.0
_CONCATENATION = 70.0  # intervals of several fields are bitmaps, a bit for each element and prefix of its intervals
_CONCATENATION_FIELD = 30.0
_BITMAP_WORD = 0.15
_MATCHING_BIT = 2.2  # each element that matches all fields so far costs a step to the next field


def linear_cost(version: IPVersion, elements: Iterable[Element]) -> float:
    """Nanoseconds to try every element in turn."""
    everything = whole(version)
    cost = 0.0
    for element in elements:
        cost += _SET * len(element.sets)
        for interval, open_ in zip(element.box, everything, strict=True):
            if interval != open_:
                cost += _COMPARISON if interval[0] == interval[1] else _MASKED_COMPARISON
    return cost


def step_cost(version: IPVersion, step: Step) -> float:
    """Nanoseconds of ``step`` for a packet that it has no element for."""
    if isinstance(step, Linear):
        return linear_cost(version, step.members)
    if isinstance(step, Hash):
        return _hash_cost(version, step)
    return _ranges_cost(version, step)


def _hash_cost(version: IPVersion, step: Hash) -> float:
    cells = Cells(version, step.key)
    members = walked = chains = sampled = 0.0
    for bucket in islice(step.buckets.values(), 0, None, len(step.buckets) // _SAMPLED_BUCKETS + 1):
        cost = 0.0
        for element in bucket:
            cost += _SET * len(element.sets)
            for field in cells.conditions(element.box):
                first, last = element.box[field]
                cost += _COMPARISON if first == last else _MASKED_COMPARISON
        sampled += 1
        chains += bool(cost)
        members += len(bucket)
        walked += len(bucket) * (cost + _GOTO if cost else 0.0)
    apart = _BUCKET_CHAIN * chains / sampled * len(step.buckets)
    return _HASH + _HASH_PART * len(step.key) + walked / members + apart


def _ranges_cost(version: IPVersion, step: Ranges) -> float:
    count = len(step.members)
    if len(step.fields) == 1:
        return _TREE + _TREE_LEVEL * log2(count + 1)
    cost = _CONCATENATION + _CONCATENATION_FIELD * len(step.fields)
    matching = float(count)
    for place, field in enumerate(step.fields):
        column = [element.box[field] for element in step.members]
        rows = sum(prefixes(interval, BITS[version][field]) for interval in column)
        cost += _BITMAP_WORD * (BITS[version][field] / 8) * (rows / 64)
        matching *= crowding(column) / count
        if place < len(step.fields) - 1:
            cost += _MATCHING_BIT * matching
    return cost


def crowding(column: Sequence[Interval]) -> float:
    """How many intervals of ``column`` hold a value that one of them begins with, on average over a sample."""
    sample = column[:: len(column) // _SAMPLED_INTERVALS + 1]
    begins, ends = sorted(first for first, _ in sample), sorted(last for _, last in sample)
    begun = ended = total = 0
    for start in begins:
        while begun < len(begins) and begins[begun] <= start:
            begun += 1
        while ends[ended] < start:
            ended += 1
        total += begun - ended
    others = total / len(sample) - 1
    return 1 + others * len(column) / len(sample)


@lru_cache(maxsize=65536)
def prefixes(interval: Interval, length: int) -> int:
    """How many prefixes of a field of ``length`` bits make up ``interval``."""
    first, last = max(0, interval[0]), interval[1]
    count = 0
    while first <= last:
        size = first & -first if first else 1 << length
        while size > last - first + 1:
            size >>= 1
        first += size
        count += 1
    return count
