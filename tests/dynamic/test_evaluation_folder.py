"""What the folder of an evaluation keeps: of a stopped or killed run, of several processes, of another evaluation."""

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dynamic.evaluations_for_tests import (
    CLASSES,
    Stopped,
    assert_same,
    batches,
    numbers,
    read,
    stop_after,
    tiny,
    watched,
    write_images,
)

from plainvision.dynamic import DynamicNetwork, Outcomes, Space, evaluate
from plainvision.training.recipe import Data

TESTS = Path(__file__).parent.parent
OTHER_STRIDES = Space(stride=(1, 2))


@pytest.fixture(scope="module")
def network() -> DynamicNetwork:
    return tiny()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("batches_per_part", [1, 2, 3, 50])
def test_outcomes_do_not_depend_on_parts(network, data, tmp_path, batches_per_part):
    for given in (data, [(batch.images, batch.labels) for batch in read(data, 4)]):
        out = tmp_path / type(given).__name__
        expected = evaluate(network, given, batch_size=4)
        outcomes = evaluate(network, given, batch_size=4, batches_per_part=batches_per_part, out=out)
        assert_same(outcomes, expected)
        assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "outcomes.safetensors"]
        assert_same(Outcomes.load(out / "outcomes.safetensors", network.fingerprint), expected)


@pytest.mark.parametrize("kind", ["data", "loader"])
def test_a_stopped_run_goes_on_where_it_was_and_ends_the_same(network, data, tmp_path, kind):
    given = data if kind == "data" else batches(4, 4, 4, 4, 2)
    again = {"batch_size": 4, "batches_per_part": 2, "controls": False}
    expected = evaluate(network, given, **again)
    again["out"] = tmp_path / "out"
    with watched(network) as before, pytest.raises(Stopped):
        evaluate(network, given, on_progress=stop_after(12), **again)
    assert [path.name for path in sorted(tmp_path.glob("out/part-*"))] == ["part-00000.safetensors"]
    progress = []
    with watched(network) as after:
        outcomes = evaluate(network, given, on_progress=lambda *told: progress.append(told), **again)
    assert_same(outcomes, expected)
    if kind == "loader":
        assert numbers(before) == set(range(12))
        assert numbers(after) == set(range(8, 18))  # the finished part is not computed again
    assert progress == [(done, 10 if kind == "data" else None) for done in (4, 8, 10)]
    with watched(network) as seen:
        assert_same(evaluate(network, given, **again), expected)
    assert not seen  # a finished evaluation is read


def test_a_loader_that_shuffles_is_found_out_when_it_is_read_again(network, tmp_path):
    given = batches(4, 4, 4)
    given = [(images, torch.full_like(labels, number)) for number, (images, labels) in enumerate(given)]
    with pytest.raises(Stopped):
        evaluate(network, given, out=tmp_path, batches_per_part=1, on_progress=stop_after(8))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "part-00000.safetensors" in files
    with pytest.raises(ValueError, match=r"the loader gave its images in another order than before.*does not shuffle"):
        evaluate(network, given[::-1], out=tmp_path, batches_per_part=1)
    for name, content in files.items():
        assert (tmp_path / name).read_bytes() == content
    assert not (tmp_path / "outcomes.safetensors").exists()


def test_a_folder_of_another_evaluation_is_refused_and_stays(network, data, tmp_path):
    again = {"batch_size": 4, "batches_per_part": 2, "controls": False}
    evaluate(network, data, out=tmp_path / "finished", **again)
    with pytest.raises(Stopped):
        evaluate(network, data, out=tmp_path / "begun", on_progress=stop_after(12), **again)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == 4
    for what, other, given, changed in (
        ("fingerprint", tiny(seed=4), data, {}),
        ("permutations", tiny(OTHER_STRIDES), data, {}),
        ("data", network, replace(data, image_size=9), {}),
        ("data", network, batches(4), {}),
        ("condition", network, data, {"scale": 2}),
        ("data", network, data, {"context": 9}),
        ("views", network, data, {"controls": True}),
        ("precision", network, data, {"precision": "bf16"}),
        ("batch_size", network, data, {"batch_size": 3}),
        ("batches_per_part", network, data, {"batches_per_part": 3}),
    ):
        for folder in ("begun", "finished"):
            match = rf"{folder} holds an evaluation of something else: it differs in .*{what} \(.*Give another folder"
            with pytest.raises(ValueError, match=match):
                evaluate(other, given, out=tmp_path / folder, **{**again, **changed})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    # Neither the processes that read images nor what is shared decides the outcomes.
    finished = evaluate(network, data, out=tmp_path / "finished", **again)
    assert_same(evaluate(network, replace(data, workers=1), out=tmp_path / "begun", share=False, **again), finished)


def test_a_folder_with_something_else_in_it_is_refused(network, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty and holds no evaluation of ours\. Give an empty or a new"):
        evaluate(network, batches(2), out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(OSError, match=r"cannot write .*notes\.txt.*Give another folder"):
        evaluate(network, batches(2), out=tmp_path / "notes.txt" / "out")


def run(program: str, *arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def given_to(program: Path, network: DynamicNetwork, data: Data, code: str) -> str:
    """Write a program that finds ``network`` and ``data``, to the bit."""
    torch.save(network.model.state_dict(), program.with_suffix(".pt"))
    program.with_suffix(".pickle").write_bytes(pickle.dumps(data))
    program.write_text(
        "import os, pickle, signal, sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from dynamic.evaluations_for_tests import tiny\n"
        "from plainvision.dynamic import evaluate\n"
        "torch.set_num_threads(1)\n"
        "network = tiny()\n"
        f"network.model.load_state_dict(torch.load({str(program.with_suffix('.pt'))!r}))\n"
        f"data = pickle.loads(Path({str(program.with_suffix('.pickle'))!r}).read_bytes())\n" + code
    )
    return str(program)


KILLED = """
written = 0

def killing(descriptor):
    global written
    written += 1
    if written == 5:  # the plan and the first part with their folder, and in the middle of the second
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = killing
evaluate(network, data, batch_size=3, batches_per_part=2, out=sys.argv[1])
"""


def test_a_run_that_is_killed_while_it_writes_is_found_again(network, data, tmp_path):
    out = tmp_path / "out"
    ended = run(given_to(tmp_path / "program.py", network, data, KILLED), out)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = sorted(path.name for path in out.iterdir())
    assert left[0].endswith(".unfinished")
    assert left[1:] == ["evaluation.json", "part-00000.safetensors"]
    progress = []
    outcomes = evaluate(
        network, data, batch_size=3, batches_per_part=2, out=out, on_progress=lambda *told: progress.append(told)
    )
    assert progress[-1] == (12, 12)
    assert_same(outcomes, evaluate(network, data, batch_size=3))
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "outcomes.safetensors"]


TOGETHER = """
rank, place = os.environ["RANK"], Path(sys.argv[1])
found = evaluate(network, data, batch_size=3, batches_per_part=1, out=place / "data")
found.save(place / f"data-{rank}.safetensors")
images = [batch for batch in torch.load(place / "batches.pt")]
told = []
found = evaluate(network, images, batches_per_part=1, out=place / "loader", on_progress=lambda *n: told.append(n))
found.save(place / f"loader-{rank}.safetensors")
try:
    evaluate(network, data)
except ValueError as error:
    (place / f"told-{rank}.txt").write_text(f"{told[-1][0]} images; {error}")
"""


def test_two_processes_find_what_one_finds_and_finish_what_one_began(network, data, tmp_path):
    given = batches(4, 3, 4, 2, 4)
    torch.save(given, tmp_path / "batches.pt")
    with pytest.raises(Stopped):
        evaluate(network, given, out=tmp_path / "loader", batches_per_part=1, on_progress=stop_after(7))
    program = given_to(tmp_path / "program.py", network, data, TOGETHER)
    ended = run(program, tmp_path, launcher=("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"))
    assert ended.returncode == 0, ended.stderr
    for kind, expected in (
        ("data", evaluate(network, data, batch_size=3)),
        ("loader", evaluate(network, given, batches_per_part=1)),
    ):
        for rank in (0, 1):
            assert_same(Outcomes.load(tmp_path / f"{kind}-{rank}.safetensors"), expected)
        assert sorted(path.name for path in (tmp_path / kind).iterdir()) == ["evaluation.json", "outcomes.safetensors"]
    refused = "2 processes need a folder to meet in: give `out`, the same to each."
    told = [(tmp_path / f"told-{rank}.txt").read_text() for rank in (0, 1)]
    assert told == [f"5 images; {refused}", f"8 images; {refused}"]  # they shared four of five parts


def test_weights_that_have_changed_since_are_those_of_another_network(tmp_path):
    network, given = tiny(), batches(3)
    evaluate(network, given, out=tmp_path / "out", controls=False)
    with torch.no_grad():
        network.model.fc.weight.neg_()
    with pytest.raises(ValueError, match=r"holds an evaluation of something else: it differs in fingerprint \("):
        evaluate(network, given, out=tmp_path / "out", controls=False)


def test_classes_in_another_order_are_another_evaluation(data, tmp_path):
    network = tiny()
    evaluate(network, data, out=tmp_path / "out", classes=CLASSES, controls=False)
    with pytest.raises(ValueError, match="it differs in classes"):
        evaluate(network, data, out=tmp_path / "out", classes=CLASSES[::-1], controls=False)
