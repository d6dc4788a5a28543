"""Both tasks in two processes, which share the validation images."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import replace

from tasks.runs_for_tests import Guesses, Knows, recipe
from tasks.scenes_for_tests import coco_folder, label_folder

from plainvision.processes import process_group
from plainvision.tasks.scenes import SceneReader
from plainvision.training import Recipe, train
from plainvision.training.resumable import read_metrics

PROGRAM = """
import json
from pathlib import Path
from tasks.test_many_processes import tell
tell(json.loads(Path("recipes.json").read_text()))
"""
IMAGES = {"detection": 8, "masks": 8, "segmentation": 5}


def tell(recipes: dict) -> None:
    """Evaluate what makes known mistakes, train, and write what each process saw; both processes do this."""
    from functools import partial
    from pathlib import Path

    from accelerate.utils import reduce

    rank, processes = process_group().process_index, process_group().num_processes
    seen: list[str] = []
    read = SceneReader.__call__

    def noted(reader, row, seed=None):
        if seed is None:  # no training image
            seen.append(row.name)
        return read(reader, row, seed)

    SceneReader.__call__ = noted
    for name, plain in recipes.items():
        made = Recipe.from_dict(plain)
        seen.clear()
        scores = scored(made, rank, processes, partial(reduce, reduction="sum"))
        told = {"scores": dataclasses.asdict(scores), "read": list(seen)}
        if name != "masks":
            told["trained"] = dataclasses.asdict(train(made, Path("two") / name).last)
        Path(f"{name}_{rank}.json").write_text(json.dumps(told))


def scored(made: Recipe, rank: int, processes: int, total) -> object:
    _, validation = made.task.splits(made, rank, processes)
    network = Guesses() if made.task.command == "segment" else Knows(error=0.5)
    return made.task.evaluate(network, validation, classes=validation.classes, device="cpu", total=total)


def test_two_processes_evaluate_a_part_of_the_images_each_and_score_as_one_does(tmp_path):
    boxes, pixels = coco_folder(tmp_path / "boxes", train=4, validation=8), label_folder(tmp_path / "p", validation=5)
    runs = {
        "detection": recipe("detection", boxes, batch_size=4, epochs=1),
        "segmentation": recipe("segmentation", pixels, batch_size=4, epochs=1),
    }
    runs["masks"] = replace(runs["detection"], task=replace(runs["detection"].task, kind="mask_rcnn"))
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "recipes.json").write_text(json.dumps({name: one.to_dict() for name, one in runs.items()}))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "program.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    for name, made in runs.items():
        first, second = (json.loads((tmp_path / f"{name}_{rank}.json").read_text()) for rank in (0, 1))
        assert len({*first["read"], *second["read"]}) == len(first["read"] + second["read"]) == IMAGES[name]
        assert abs(len(first["read"]) - len(second["read"])) < 2
        alone = scored(made, 0, 1, None)
        assert 1 < alone.score < 99
        assert first["scores"] == second["scores"] == json.loads(json.dumps(dataclasses.asdict(alone)))
        if name != "masks":
            assert first["trained"] == second["trained"]
            assert sum("epoch" in line for line in read_metrics(tmp_path / "two" / name)) == 1
