"""Work that is killed at each of its file events in turn, then resumed: run as a program, it prints what went wrong.

    python kills_for_tests.py train|search|study FOLDER [FIRST EVERY]

FIRST and EVERY share the events out over several of these programs, each with a folder of its own.

Every death is a process forked from this one, which has imported everything and computed nothing yet.
"""

import builtins
import io
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import sklearn.datasets  # noqa: F401  # takes seconds
import torch

import plainvision.models
import plainvision.training.report.run  # noqa: F401  # Matplotlib takes a second
from plainvision.bench import comparison, measure  # noqa: F401
from plainvision.search import search_cells
from plainvision.search.comparison import compare_with_random
from plainvision.search.settings import Budget, CellSearch
from plainvision.study import LayerStudy
from plainvision.study.run import _train as train_study
from plainvision.training import Augment, Data, Machine, Recipe, loop
from plainvision.training.resumable import read_metrics
from plainvision.training.techniques import EMA, DeepTraining, FuseAfterAnneal

DATA = Data(
    channels=1, image_size=32, crop_ratio=1.0, mean=(0.3,), std=(0.37,), workers=0, train_per_class=2,
    validation_per_class=1,
)  # fmt: skip
RECIPE = Recipe(
    name="killed",
    model="vanillanet_5",
    model_options={"width": 1 / 64, "in_chans": 1, "drop_rate": 0.2},
    data=DATA,
    augment=Augment(scale=(0.6, 1.0), flip=0.0, mixup=0.2),
    epochs=2,
    batch_size=10,  # two steps an epoch
    optimizer="adamw",
    lr=3e-3,
    warmup_epochs=0,
    techniques=(DeepTraining(epochs=1), FuseAfterAnneal(), EMA(decay=0.8)),
    machine=Machine(threads=1, log_steps=1, checkpoint_steps=1),
)
SEARCH = CellSearch(
    data=replace(DATA, image_size=8), depth=3, nodes=1, channels=4, epochs=2, batch_size=5, architecture_lr=0.1,
    checkpoint_steps=1,
)  # fmt: skip
BUDGET = Budget(channels=4, epochs=1, batch_size=10, seeds=1)
STUDY = LayerStudy(data=DATA, ops=("conv", "max"), stages=(4,), seeds=(0,), epochs=1, batch_size=10)


def train(folder: Path, resume: bool) -> None:
    loop.train(RECIPE, folder, resume=resume)


def search(folder: Path, resume: bool) -> None:
    found = search_cells(SEARCH, folder, resume=resume)
    compare_with_random(found, SEARCH, BUDGET, folder, resume=resume)


def study(folder: Path, resume: bool) -> None:
    train_study(STUDY, folder, resume, None)


KNOWN = {"train": "recipe.json", "search": "search.json", "study": None}
WORK: dict[str, Callable[[Path, bool], None]] = {"train": train, "search": search, "study": study}


class Killer:
    """Counts the file events of this process, and kills it at one of them."""

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at, self.count = folder, at, 0

    def event(self, before_dying: Callable[[], object] = lambda: None) -> None:
        self.count += 1
        if self.count == self.at:
            before_dying()
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: object, name: str) -> None:
        """Count an event before and after each call about the folder's files."""
        function = getattr(owner, name)

        def counted(*given, **named):
            mine = any(isinstance(one, str | Path) and self.folder in Path(one).parents for one in given)
            if mine:
                self.event()
            result = function(*given, **named)
            if mine:
                self.event()
            return result

        setattr(owner, name, counted)

    def watch(self) -> None:
        for name in ("mkdir", "replace", "unlink", "rmdir"):
            self.around(os, name)
        self.around(torch, "save")
        self.around(safetensors.torch, "save_file")
        for owner in (builtins, io, pathlib.io):
            self._open(owner)
        self._sync()

    def _sync(self) -> None:
        sync = os.fsync

        def counted(descriptor):
            size = os.fstat(descriptor).st_size
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            half = Path(path).is_file()
            # What was written may be there by half only.
            self.event(lambda: os.truncate(path, size // 2) if half else None)
            self.event()
            sync(descriptor)
            self.event()

        os.fsync = counted

    def _open(self, owner) -> None:
        opened = owner.open
        if getattr(opened, "counted", False):
            return

        def counted(file, mode="r", *given, **named):
            if not (isinstance(file, str | Path) and self.folder in Path(file).parents):
                return opened(file, mode, *given, **named)
            self.event()
            stream = opened(file, mode, *given, **named)
            self.event()
            if "r" in mode:
                return stream
            write = stream.write

            class Written:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    stream.close()

                def __getattr__(self, name):
                    return getattr(stream, name)

                def write(_, content):
                    half = len(content) // 2
                    write(content[:half])
                    stream.flush()
                    self.event()
                    write(content[half:])
                    stream.flush()
                    self.event()
                    return len(content)

            return Written()

        counted.counted = True
        owner.open = counted


def in_a_child(work: Callable[[], None], log: Path) -> int:
    """Do ``work`` in a fork and return how it ended: 0, 1 or the negative signal."""
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = 1
        try:
            torch.set_num_threads(1)
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(folder: Path) -> dict[str, object]:
    """Return everything that a run leaves behind, but for the seconds that it took."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            if path.name.startswith("."):
                found[name] = "left behind"
        elif path.name == "metrics.jsonl":
            lines = [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(path.parent)]
            found[name] = lines
        elif path.name == "report.html":
            found[name] = path.read_text().split("<h2>Speed</h2>")[0]  # then times and folders follow
        elif path.name == "state.pt":
            state = torch.load(path, weights_only=True)
            found[name] = repr(state) + str(numbers(state))
        else:
            found[name] = path.read_bytes()
    return found


def numbers(state: object) -> list[bytes]:
    """Return the content of all tensors in ``state``, in its order."""
    if isinstance(state, torch.Tensor):
        return [state.numpy().tobytes()]
    if isinstance(state, dict):
        state = list(state.values())
    return [one for part in state for one in numbers(part)] if isinstance(state, list | tuple) else []


def killed(kind: str, folder: Path, first: int = 1, every: int = 1) -> list[str]:
    """Kill the work at each event, resume it, and return what differs from undisturbed work."""
    work, log = WORK[kind], folder / "log"
    assert in_a_child(lambda: work(folder / "whole", False), log) == 0, log.read_text()
    whole = content(folder / "whole")
    wrong = []
    at, place, known = first - every, folder / "killed", KNOWN[kind]
    while True:
        at += every

        def dying(at: int = at) -> None:
            Killer(place, at).watch()
            work(place, False)

        ended = in_a_child(dying, log)
        print(at, end=" ", flush=True)
        if ended != -signal.SIGKILL:
            assert ended == 0, log.read_text()
            print(f"{at - 1} events")
            return wrong
        resume = known is None or (place / known).exists()
        if in_a_child(lambda resume=resume: work(place, resume), log):
            wrong.append(f"event {at}: {log.read_text()[-600:]}")
        else:
            found = content(place)
            differ = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
            if differ:
                wrong.append(f"event {at}: {', '.join(differ)}")
        shutil.rmtree(place)


if __name__ == "__main__":
    problems = killed(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
    print("\n".join(problems))
    sys.exit(bool(problems))
