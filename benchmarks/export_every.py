"""Claim: each network of the table goes through every format at full size, and answers as in PyTorch.

    $ python benchmarks/export_every.py
    $ python benchmarks/export_every.py --only vanillanet_5 --formats onnx

Writes results/export_every.json after each network; what is in it is not exported again. Takes some hours on two cores,
and from PatchConvNet-B120 on more than 10 GB of memory.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from claim import conclude

import plainvision as pv
from plainvision.deploy import Preprocessing
from plainvision.deploy.formats import FORMATS

CLAIM = "each network of the table goes through every format at full size"
RECORD = Path(__file__).parents[1] / "results" / "export_every.json"
SHOWN = ("network", "format", "size_mb", "seconds", "refused")


def main() -> None:
    """Export, and keep the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", nargs="*", default=pv.list_models())
    parser.add_argument("--formats", nargs="*", default=["onnx", "openvino", "torch"], choices=list(FORMATS))
    given = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RECORD.read_text())["figures"]["rows"] if RECORD.exists() else []
    done = {(row["network"], row["format"]) for row in rows}
    for name in given.only:
        todo = [format for format in given.formats if (name, format) not in done]
        rows += [_exported(name, format) for format in todo]
        if todo:
            conclude(CLAIM, all(not row["refused"] for row in rows), rows, SHOWN, device="cpu")


def _exported(name: str, format: str) -> dict[str, Any]:
    model: Any = pv.create_model(name).eval()
    pv.set_slope(model, 1)
    size = model.default_cfg["input_size"][1]
    row: dict[str, Any] = {"network": name, "format": format, "size_mb": None, "largest_relative_error": None}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = pv.deploy.export(
                model, f"{folder}/out", preprocessing=Preprocessing(image_size=size), format=format
            )
            row |= {"size_mb": found.size_mb, "largest_relative_error": found.largest_relative_error, "refused": ""}
        except ValueError as error:
            row["refused"] = str(error)
    return row | {"seconds": time.monotonic() - started}


if __name__ == "__main__":
    main()
