"""Write what the documentation generates: docs/networks.md, docs/results.md and docs/evidence.md between markers.

Run: python docs/generate.py            (rewrites the files that are out of date)
     python docs/generate.py --check    (names them, and ends with exit status 1 when there are any)

The networks come from the cards, results and evidence from the records in results/. What lies outside the markers is
written by hand and stays as it is.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plainvision as pv
from plainvision.bench import as_table

ROOT = Path(__file__).resolve().parents[1]

# A figure that all rows share and that describes the measurement goes below the table, not into it.
CIRCUMSTANCES = (
    *("batch_size", "image_size", "device", "precision", "channels_last", "compiled", "threads", "runs", "epochs"),
)
VERDICTS = {
    True: "The claim holds.",
    False: "The claim does not hold.",
    None: "Undecided: the machine was too noisy to tell.",
}
# Words of a figure's key that read otherwise in a heading.
WORDS = {"macs": "MACs", "parameters": "params", "top1": "top-1 %", "mb": "MB", "g": "G"}
# Counts are recorded one by one. A key that ends so is a count; `macs_ratio` is none.
SCALES = {"macs": (1e9, "G"), "parameters": (1e6, "M")}
# A wider table is read by nobody: its record has to name the columns that count.
WIDEST = 10


def main() -> None:
    """Write the files, or say which are out of date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when a file is out of date")
    arguments = parser.parse_args()
    stale = {path: text for path, text in generated().items() if text != path.read_text(encoding="utf-8")}
    for path, text in stale.items():
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
        print(f"{'out of date' if arguments.check else 'written'}: {path.relative_to(ROOT)}")
    sys.exit(1 if arguments.check and stale else 0)


def generated() -> dict[Path, str]:
    """Return the whole text that each file with generated parts should have."""
    families = dict.fromkeys(pv.card(name).family for name in pv.list_models())
    parts = {
        ROOT / "docs" / "networks.md": {family: networks(family) for family in families},
        ROOT / "docs" / "results.md": {"results": results()},
        ROOT / "docs" / "evidence.md": {
            **{path.stem: evidence(read_record(path)) for path in records("ablations_*.json")},
            **{path.stem: rows_alone(read_record(path)) for path in records("clothing_causes.json")},
        },
    }
    texts = {path: path.read_text(encoding="utf-8") for path in parts}
    for path, contents in parts.items():
        for name, content in contents.items():
            texts[path] = between(texts[path], name, content)
    return texts


def between(text: str, name: str, content: str) -> str:
    """Return ``text`` with ``content`` between its markers called ``name``.

    Raises:
        ValueError: the markers are not there.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no place for the generated part {name!r}: put {begin} and {end} around it.")
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def networks(family: str) -> str:
    """Return the table of a family's networks, and where their accuracies are published."""
    cards = [pv.card(name) for name in pv.list_models(family)]
    rows = [
        {
            "network": f"`{card.name}`",
            "params M": card.params / 1e6,
            "MACs G": card.macs / 1e9,
            "image": card.image_size,
            "top-1 %": card.top1,
        }
        for card in cards
    ]
    named: dict[str, list[str]] = {}
    for card in cards:
        note = f" ({card.note})" if card.note else ""
        named.setdefault(f"{card.source}{note}", []).append(f"`{card.name}`")
    # One source needs no names: it is that of the whole table.
    whole = len(named) == 1
    sources = [source if whole else f"{source}, for {', '.join(names)}" for source, names in named.items()]
    what = "Top-1 on ImageNet-1k is published in" if any(card.top1 is not None for card in cards) else "Published in"
    return f"{as_table(rows)}\n\n{what} {'; in '.join(sources)}."


def records(names: str) -> list[Path]:
    """Return the files in results/ whose names match."""
    return sorted((ROOT / "results").glob(names))


def read_record(path: Path) -> dict[str, Any]:
    """Return what a record holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def results() -> str:
    """Return a section for each record in results/."""
    return "\n\n".join(section(path.stem, read_record(path)) for path in records("*.json"))


def evidence(record: Mapping[str, Any]) -> str:
    """Return how rows were trained, and a table of published differences, of those measured here, and the verdicts."""
    figures = record["figures"]
    rows, (how,) = {row["row"]: row for row in figures["rows"]}, figures["settings"]

    def here(name: str) -> str:
        row = rows[name]
        spread = "" if row["top1_std"] is None else f" ± {row['top1_std']:.2f}"
        return f"{row['top1_mean']:.2f}{spread} (n {row['n']})"

    def published(claim: Mapping[str, Any]) -> str:
        row, base = (rows[claim[name]]["published"] for name in ("row", "against"))
        return f"{row} - {base} = {claim['published']:+.2f}"

    def measured(claim: Mapping[str, Any]) -> str:
        reach = "" if claim["low"] is None else f" ({claim['low']:+.2f} to {claim['high']:+.2f})"
        return f"{claim['measured']:+.2f}{reach}"

    differences = [
        {
            "row": claim["row"],
            "against": claim["against"],
            "published": published(claim),
            "row here": here(claim["row"]),
            "against here": here(claim["against"]),
            "difference here": measured(claim),
            "at this size": claim["verdict"],
        }
        for claim in figures["claims"]
    ]
    trained = (
        f"Trained on {how['training_images']:,} images at {how['image_size']} pixels, {how['epochs']} epochs, "
        f"batches of {how['batch_size']}, {how['optimizer']} at {how['lr']:g}; the networks have {how['options']}."
    )
    return "\n\n".join([trained, *(table(one) for one in (differences, figures.get("latency")) if one)])


def rows_alone(record: Mapping[str, Any]) -> str:
    """Return the tables of a record without what stands around them in the results."""
    return "\n\n".join(table(rows) for rows in tables(record["figures"], record["columns"]))


def section(name: str, record: Mapping[str, Any]) -> str:
    """Return a record as text: its claim, what became of it, its figures, and how and where they were got."""
    figures, host = record["figures"], record["host"]
    claim = record["claim"][0].upper() + record["claim"][1:].rstrip(".") + "."
    verdict = f" {VERDICTS[figures['holds']]}" if "holds" in figures else ""
    threads = host["threads"]
    where = [
        f"{host['cpu']}, {threads} thread{'s' if threads != 1 else ''}",
        *([host["gpu"]] if host["gpu"] else []),
        f"Python {host['python']}, torch {host['torch']}, timm {host['timm']}, plainvision {host['plainvision']}",
        *([f"commit {host['commit']}"] if host["commit"] else []),
    ]
    return "\n\n".join(
        [
            f"## {name.replace('_', ' ').capitalize()}",
            f"{claim}{verdict}",
            *(table(rows) for rows in tables(figures, record.get("columns"))),
            f"`{record['command']}`, {record['date']}; {'; '.join(where)}. Record: "
            f"[results/{name}.json](../results/{name}.json)",
        ]
    )


def tables(figures: Mapping[str, Any], columns: Sequence[str] | None = None) -> list[list[dict[str, Any]]]:
    """Return the rows of each table that figures make.

    Figures may be lists of rows, rows by name, or single values; ``holds`` is the verdict and no figure. Of the rows
    called "rows", or by name, only ``columns`` are shown, with the circumstances, which go below the table where all
    rows share them. Beside them a table called "measured" is left to the record: "rows" sums it up.
    """
    figures = {key: value for key, value in figures.items() if key not in ("holds", "measured")}
    if figures and all(isinstance(value, Mapping) for value in figures.values()):
        return [_chosen([{"name": name, **row} for name, row in figures.items()], columns and ["name", *columns])]
    lists = {key: value for key, value in figures.items() if _is_rows(value)}
    if columns is not None and "rows" in lists:
        lists["rows"] = _chosen(lists["rows"], columns)
    single = [
        {"figure": heading(key), "value": plain(key, value)}
        for key, value in figures.items()
        if key not in lists and not isinstance(value, Mapping)
    ]
    return [*lists.values(), *([single] if single else [])]


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table, and below it the circumstances that they share."""
    rows = [{key: len(value) if _is_rows(value) else value for key, value in row.items()} for row in rows]
    shared = {key: rows[0][key] for key in CIRCUMSTANCES if key in rows[0] and len(rows) > 1}
    shared = {key: value for key, value in shared.items() if all(row.get(key, ...) == value for row in rows)}
    kept = [{heading(key): plain(key, value) for key, value in row.items() if key not in shared} for row in rows]
    if len(kept[0]) > WIDEST:
        raise ValueError(
            f"a table of {len(kept[0])} columns, from {next(iter(kept[0]))!r} on, is too wide to be read: let the "
            f'record name at most {WIDEST} of them under "columns".'
        )
    # What is off or left as it is says nothing: precision "no", no channels_last, no compiler.
    said = [f"{heading(key)} {plain(key, value)}" for key, value in shared.items() if value not in (False, "no")]
    return as_table(kept) + (f"\n\nAll rows: {', '.join(said)}." if said else "")


def heading(key: str) -> str:
    """Return what a figure is called in a table: `p50_ms` is "p50 ms", `training_macs` "training MACs G"."""
    *_, last = key.split("_")
    return " ".join([*(WORDS.get(part, part) for part in key.split("_")), *SCALES.get(last, (1, ""))[1:]]).strip()


def plain(key: str, value: Any) -> Any:
    """Return a figure in the unit of its heading; of a list or dict, words."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        *_, last = key.split("_")
        return value / SCALES[last][0] if last in SCALES else value
    if isinstance(value, Mapping):
        return ", ".join(f"{heading(inner)} {plain(inner, one)}" for inner, one in value.items())
    if isinstance(value, list):
        return (" x " if re.search("size|shape", key) else ", ").join(str(one) for one in value)
    return value


def _chosen(rows: list[dict[str, Any]], columns: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the ``columns`` of the rows in their order, and the circumstances that all of them share."""
    if columns is None:
        return rows
    shared = {key: rows[0][key] for key in CIRCUMSTANCES if key in rows[0] and key not in columns}
    shared = {key: value for key, value in shared.items() if all(row.get(key, ...) == value for row in rows)}
    return [{key: row.get(key) for key in columns} | shared for row in rows]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


if __name__ == "__main__":
    main()
