"""Claim: `predict.py` of a deployed folder gives the classes that `plainvision evaluate` gives, without this package.

A fresh virtual environment gets the runtime, numpy and Pillow alone, and predicts some of the images.

    $ plainvision deploy runs/clothing --to onnx --out deployed
    $ plainvision evaluate runs/clothing --data.root clothing/ --csv predictions.csv
    $ python benchmarks/runtime_only.py deployed predictions.csv --images 50
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


def main() -> None:
    """Compare, and end with 1 where a class differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="a deployed folder")
    parser.add_argument("csv", type=Path, help="what `plainvision evaluate FOLDER --csv` wrote, of images in a folder")
    parser.add_argument("--images", type=int, default=50)
    given = parser.parse_args()
    rows = list(csv.DictReader(given.csv.open()))
    rows = rows[:: max(1, len(rows) // given.images)][: given.images]
    paths = [str(Path(row["found_in"]) / row["image"]) for row in rows]
    runtime = RUNTIMES[json.loads((given.folder / "deploy.json").read_text())["format"]]
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = f"{place}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", runtime, "numpy", "pillow"], check=True)
        packages = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
        words = [python, str(given.folder / "predict.py"), *paths]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [line.removeprefix(f"{path} ") for line, path in zip(said, paths, strict=True)]
    wrong = [path for path, row, one in zip(paths, rows, found, strict=True) if row["predicted"] != one]
    print(f"{len(paths) - len(wrong)} of {len(paths)} images have the same class; installed: {packages.split()}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
