"""What papers publish, recorded in `tests/golden`, and how recipes say it."""

import json
from pathlib import Path
from typing import Any

from plainvision.recipes import describe, list_recipes
from plainvision.training import Recipe

GOLDEN = Path(__file__).parents[1] / "golden"
TABLES: dict[str, Any] = json.loads((GOLDEN / "vanillanet_tables.json").read_text())
TABLE_7 = TABLES["recipe"]
PATCHCONVNET: dict[str, Any] = json.loads((GOLDEN / "patchconvnet_tables.json").read_text())
PARAMETER_FREE: dict[str, Any] = json.loads((GOLDEN / "parameter_free_tables.json").read_text())["models"]
TABLE_B3 = {row["model"]: row for row in PATCHCONVNET["norm_ablation"]}


def expects(name: str, top1: float) -> bool:
    return f"Expect {top1:.1f} % top-1" in " ".join(describe(name).split())


def paper_epochs(built: Recipe) -> int:
    """Epochs of as many images as the training set has, which is how the paper counts them."""
    return built.epochs * built.augment.repeats


def starts_from(built: Recipe, name: str) -> bool:
    return name in list_recipes() and built.start_from == f"runs/{name}/last.safetensors"
