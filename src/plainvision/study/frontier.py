"""Accuracy against cost: which networks are beaten by no other one in both."""

from collections.abc import Sequence
from dataclasses import dataclass

from plainvision.models.registry import family_of, is_known
from plainvision.study.facts import DEPLOYED, Cost, Fact, Known, of_card

_WORDS = {
    "macs": "multiply-adds",
    "params": "number of parameters",
    "latency": "latency",
    "memory": "peak memory",
    "depth": "depth",
    "top1": "top-1",
}
# Costs whose circumstances hold the image size: it has to be that of the accuracy.
_BY_SIZE = ("macs", "latency", "memory")


@dataclass(frozen=True)
class FrontierPoint:
    """One network."""

    name: str
    """Its words."""
    cost: Fact
    """What it costs."""
    top1: Fact
    """Its top-1, per cent."""
    family: str
    """Its family; empty for networks of one's own."""
    on_front: bool = False
    """Whether no other point costs at most as much and scores at least as well, and better in one of both."""

    @property
    def published(self) -> bool:
        """Whether the accuracy, or the cost, is a paper's."""
        return self.top1.published or self.cost.published


def frontier(known: Sequence[Known], cost: Cost) -> list[FrontierPoint]:
    """Return a point for each network whose ``cost`` is known, by that cost.

    Top-1 comes from the same source, or from another of the same name, or of the name without ":deployed", for fusing
    changes no answer; else from the network's card.

    Raises:
        ValueError: nothing is known of a network's cost, or of its accuracy.
    """
    scores: dict[str, Fact] = {}
    for one in known:
        if "top1" in one.facts:
            scores.setdefault(one.name, one.facts["top1"])
    costly = [one for one in known if cost in one.facts]
    drawn = {_plain(one.name) for one in costly}
    if lost := [one for one in known if cost not in one.facts and _plain(one.name) not in drawn]:
        measured = cost in ("latency", "memory")
        how = f"plainvision bench {lost[0].name} --json bench.json" if measured else "its run, or its name for its card"
        raise ValueError(
            f"nothing is known of the {_WORDS[cost]} of {lost[0].name} ({lost[0].source}). Give a record of it: {how}."
        )
    points = []
    for one in costly:
        top1 = one.facts.get("top1") or scores.get(one.name) or scores.get(_plain(one.name)) or _published(one.name)
        if top1 is None:
            raise ValueError(
                f"nothing is known of the top-1 of {one.name} ({one.source}). Give its run, or a record of it: "
                f"plainvision evaluate {_plain(one.name)} --json scores.json."
            )
        points.append(FrontierPoint(one.name, one.facts[cost], top1, _family(one.name)))
    points.sort(key=lambda point: (point.cost.value, -point.top1.value))
    return _with_front(points)


def mixed(points: Sequence[FrontierPoint], cost: Cost) -> list[str]:
    """Return a sentence for each circumstance in which the points differ, so that their numbers are not comparable."""
    found = []
    for what, facts in (("top1", [one.top1 for one in points]), (cost, [one.cost for one in points])):
        if what in ("params", "depth"):
            continue
        for name in dict.fromkeys(name for fact in facts for name in fact.circumstances):
            values = list(dict.fromkeys(fact.circumstances.get(name, "unknown") for fact in facts))
            if len(values) > 1:
                found.append(f"{_WORDS[what]}: {name} {', '.join(values[:6])}{', ...' if len(values) > 6 else ''}")
    if cost in _BY_SIZE:
        for one in points:
            sizes = one.top1.circumstances.get("image size"), one.cost.circumstances.get("image size")
            if sizes[0] != sizes[1]:
                found.append(f"{one.name}: top-1 at image size {sizes[0]}, {_WORDS[cost]} at {sizes[1]}")
    return found


def _with_front(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    def beaten(one: FrontierPoint) -> bool:
        return any(
            other.cost.value <= one.cost.value
            and other.top1.value >= one.top1.value
            and (other.cost.value, other.top1.value) != (one.cost.value, one.top1.value)
            for other in points
        )

    return [FrontierPoint(one.name, one.cost, one.top1, one.family, not beaten(one)) for one in points]


def _plain(name: str) -> str:
    return name.removesuffix(DEPLOYED)


def _published(name: str) -> Fact | None:
    plain = _plain(name)
    return of_card(plain).facts.get("top1") if ":" not in plain and "/" not in plain and is_known(plain) else None


def _family(name: str) -> str:
    plain = _plain(name).partition(":")[0]
    return "" if "/" in plain or not is_known(plain) else family_of(plain) or "timm"
