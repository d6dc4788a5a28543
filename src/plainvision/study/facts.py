"""What is known of networks' accuracy and cost: from records, from runs, and from what papers publish.

Records are data of strangers: they are bounded, and what is in them is text and finite numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from plainvision import cards
from plainvision.files import nearby, read_object
from plainvision.models.registry import is_known
from plainvision.training.network_words import network_words
from plainvision.training.resumable import read_metrics
from plainvision.training.score_record import costs, images_of

Cost = Literal["macs", "params", "latency", "memory", "depth"]
COSTS: tuple[Cost, ...] = get_args(Cost)
DEPLOYED = ":deployed"

_LARGEST, _MOST_ROWS, _LONGEST = 2**24, 1000, 300
_HIGHEST = 1e18


@dataclass(frozen=True)
class Fact:
    """One number, and what it is comparable with."""

    value: float
    """The number."""
    source: str
    """Where it comes from."""
    circumstances: dict[str, str] = field(default_factory=dict)
    """What it depends on: facts with others are not comparable."""
    published: bool = False
    """Whether a paper has it, rather than a measurement of ours."""


@dataclass(frozen=True)
class Known:
    """What one source knows of one network."""

    name: str
    """The network's words; a deployed form ends with `DEPLOYED`."""
    source: str
    """The source, as it was given."""
    facts: dict[str, Fact]
    """Top-1 in per cent, multiply-adds, parameters, latency in ms, memory in MB, depth in layers; by these names."""


def read_facts(source: str) -> list[Known]:
    """Return what a source knows: a record's file, the folder of a run, or the name of a network for its card.

    Raises:
        FileNotFoundError, ValueError: there is no such thing, it is damaged, or it knows nothing of the kind.
    """
    place = source.removesuffix(DEPLOYED)
    if Path(source).suffix == ".json" or Path(source).is_file():
        return _of_record(Path(source))
    if Path(place).is_dir():
        return [_of_run(place, source)]
    if "/" in source or not is_known(place):
        raise FileNotFoundError(
            f"{source} is no file of a record, no folder of a run and no name of a network.{nearby(Path(source))} Give "
            "what --json of `plainvision bench` or `plainvision evaluate` wrote, a run, or a name that `plainvision "
            "models` lists."
        )
    return [of_card(place, source)]


def of_card(name: str, source: str = "") -> Known:
    """Return what is published and counted of a network by its name; ours are counted in the form that is published."""
    card = cards.card(name)
    said = f"published, {card.source}"
    image = {"image size": str(card.image_size)}
    counted = "counted, of the card"
    facts = {
        "macs": Fact(card.macs, counted, image),
        "params": Fact(card.params, counted),
    }
    depth = cards.depth(name)
    if depth is not None:
        facts["depth"] = Fact(depth, counted)
    if card.top1 is not None:
        facts["top1"] = Fact(card.top1, said, {"images": "ImageNet-1k val", **image}, published=True)
    for cost, measured in (("latency", card.latency), ("memory", card.memory)):
        if measured is not None:
            told = {
                **image,
                "device": measured.device,
                "batch size": str(measured.batch_size),
                "precision": measured.precision,
            }
            facts[cost] = Fact(measured.value, f"published, {measured.source}", told, published=True)
    return Known(name, source or name, facts)


def _of_run(folder: str, source: str) -> Known:
    """Return what a run's folder knows; top-1 is that of its best weights, on the images that chose them."""
    from plainvision.training.weights_file import read_origin

    found = network_words(source).load()
    data, origin = found.data, read_origin(Path(folder) / "best.safetensors")
    image, counted = {"image size": str(data.image_size)}, f"counted, {source}"
    facts = {
        name: Fact(value, counted, image if name == "macs" else {})
        for name, value in zip(("params", "macs", "depth"), costs(found.model, data).values(), strict=True)
        if value is not None
    }
    scores = {line["epoch"]: line["top1"] for line in read_metrics(folder) if "top1" in line}
    if origin is not None and origin.epoch in scores:
        told = {"images": images_of(data), **image}
        facts["top1"] = Fact(scores[origin.epoch], f"{source}, epoch {origin.epoch + 1} of metrics.jsonl", told)
    return Known(source.rstrip("/"), source, facts)


def _of_record(path: Path) -> list[Known]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no record {path}.{nearby(path)} `plainvision bench --json FILE` writes one.")
    if (size := path.stat().st_size) > _LARGEST:
        raise ValueError(f"{path} has {size:,} bytes, and no record is so long. Give one that --json wrote.")
    record = read_object(path)
    figures, host = record.get("figures"), record.get("host")
    rows = figures.get("rows") if isinstance(figures, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{path} is no record of a bench or an evaluation: it has no rows. Give one that --json wrote."
        )
    if len(rows) > _MOST_ROWS:
        raise ValueError(f"{path} has {len(rows):,} rows, and a figure shows {_MOST_ROWS} at most. Give fewer.")
    read: Callable[[_Row, Mapping[str, Any]], Known]
    if all("p50_ms" in row and "name" in row for row in rows):
        read = _bench_row
    elif all("top1" in row and "name" in row and "form" in row for row in rows):
        read = _evaluation_row
    else:
        raise ValueError(
            f"{path} is no record of a bench or an evaluation: its rows have no p50_ms, and no top1 of a network. Give "
            "one that --json of `plainvision bench` or `plainvision evaluate` wrote."
        )
    return [read(_Row(path, number, row), host if isinstance(host, dict) else {}) for number, row in enumerate(rows, 1)]


@dataclass(frozen=True)
class _Row:
    """A row of a record, whose values are checked as they are read."""

    path: Path
    number: int
    values: Mapping[str, Any]

    @property
    def source(self) -> str:
        return str(self.path)

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
            self._refuse(key, f"text of at most {_LONGEST} letters")
        return str(value)

    def figure(self, key: str, most: float = _HIGHEST) -> float:
        value = self.values.get(key)
        if type(value) not in (int, float) or not 0 <= value <= most:  # type: ignore[operator]
            self._refuse(key, f"a number from 0 to {most:g}")
        return float(value)  # type: ignore[arg-type]

    def size(self) -> str:
        value = self.values.get("image_size")
        sides = value if isinstance(value, list) else [value, value]
        if len(sides) != 2 or not all(type(side) is int and 0 < side <= 10**5 for side in sides):
            self._refuse("image_size", "a side, or height and width, in pixels")
        return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"

    def _refuse(self, key: str, wanted: str) -> None:
        shown = repr(self.values.get(key))[:60]
        raise ValueError(f"{self.path}, row {self.number}: {key} is {shown}, and must be {wanted}. Copy it again.")


def _bench_row(row: _Row, host: Mapping[str, Any]) -> Known:
    image, device = row.size(), row.text("device")
    processor = host.get("cpu" if device.startswith("cpu") else "gpu")
    told = {
        "image size": image,
        "device": f"{device} ({processor[:_LONGEST]})" if isinstance(processor, str) else device,
        "batch size": f"{row.figure('batch_size'):g}",
        "precision": row.text("precision"),
        "compiled": str(row.values.get("compiled") is True).lower(),
        "channels last": str(row.values.get("channels_last") is True).lower(),
    }
    if device.startswith("cpu"):
        told["threads"] = f"{row.figure('threads'):g}"
    facts = {
        "macs": Fact(row.figure("macs"), row.source, {"image size": image}),
        "params": Fact(row.figure("parameters"), row.source),
        "latency": Fact(row.figure("p50_ms"), row.source, told),
    }
    if row.values.get("total_memory_mb") is not None:
        facts["memory"] = Fact(row.figure("total_memory_mb"), row.source, told)
    return Known(row.text("name"), row.source, facts)


def _evaluation_row(row: _Row, host: Mapping[str, Any]) -> Known:
    image = {"image size": row.size()}
    facts = {"top1": Fact(row.figure("top1", 100), row.source, {"images": row.text("images_of"), **image})}
    for key, cost, told in (("macs", "macs", image), ("parameters", "params", {}), ("depth", "depth", {})):
        if row.values.get(key) is not None:
            facts[cost] = Fact(row.figure(key), row.source, told)
    deployed = DEPLOYED if row.text("form") == "deployed" else ""
    return Known(row.text("name").rstrip("/") + deployed, row.source, facts)
