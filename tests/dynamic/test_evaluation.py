"""Outcomes, against one plain pass after the other, and what a folder keeps of a killed run."""

import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks_for_tests import trained
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from plainvision.data.batches import EvaluationBatches
from plainvision.data.rows import Batch
from plainvision.dynamic import DynamicNetwork, Outcomes, Space, evaluate
from plainvision.dynamic.views import VIEWS
from plainvision.layers.dynamic_conv import Option
from plainvision.training.recipe import Data

CLASSES = ("coat", "hat", "shoe")
TESTS = Path(__file__).parent.parent
OTHER_STRIDES = Space(stride=(1, 2))

Batches = list[tuple[Tensor, Tensor]]


class Tiny(nn.Module):
    """A few layers with two sites, whose answers differ between their options."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 1, 1)
        self.act, self.fc = nn.ReLU(inplace=True), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.stem(x)))
        x = self.act(self.a(x))
        return self.fc(self.act(self.b(x)).mean((2, 3)))


def tiny(
    space: Space | None = None, *, kind: type[Tiny] = Tiny, classes: int = 3, image_size: int = 8, seed: int = 3
) -> DynamicNetwork:
    torch.manual_seed(seed)
    model = trained(kind(classes), seed)
    with torch.no_grad():
        model.fc.weight *= 4
        model.fc.bias -= model(torch.randn(64, 3, 8, 8)).mean(0)  # so that no class always wins
    space = space or Space(stride=(0.5, 1, 2))
    return DynamicNetwork(model, sites={"A": "a", "B": "b"}, space=space, image_size=image_size, name="tiny")


def batches(*sizes: int, side: int = 8, classes: int = 3) -> Batches:
    """Return batches of images, the first pixel of which is their number."""
    found = [(torch.randn(n, 3, side, side), torch.randint(classes, (n,))) for n in sizes]
    for number, image in enumerate(image for images, _ in found for image in images):
        image[0, 0, 0] = number
    return found


@pytest.fixture(scope="module")
def network() -> DynamicNetwork:
    return tiny()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return write_images(tmp_path_factory.mktemp("images"))


def write_images(place: Path) -> Data:
    """Write ``clothes/SPLIT/CLASS/N.png``: 3 classes, 1 training and 6 validation images each."""
    random = np.random.default_rng(0)
    for split, each in (("train", 1), ("validation", 6)):
        for name in CLASSES:
            folder = place / "clothes" / split / name
            folder.mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 255, (18, 15, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return Data(root=str(place / "clothes"), image_size=8, crop_ratio=0.8, workers=0)


def read(data: Data, size: int) -> list[Batch]:
    return list(EvaluationBatches(data, batch_size=size))


def logits_of(network: DynamicNetwork, given: Iterable) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield images, labels and logits (P, B, K) of each batch, one plain pass after the other."""
    for batch in given:
        images, labels = (batch.images, batch.labels) if isinstance(batch, Batch) else batch
        found = []
        for permutation in network.permutations:
            with network.configure(dict(zip(network.sites, permutation, strict=True))):
                found.append(network(images.clone()))
        yield images, labels, torch.stack(found)


@torch.no_grad()
def assert_equals_plain_passes(outcomes: Outcomes, network: DynamicNetwork, given: Iterable) -> None:
    network.eval()
    rows = 0
    for images, labels, logits in logits_of(network, given):
        here = slice(rows, rows + len(labels))
        rows = here.stop
        softmax = logits.double().softmax(-1)
        truth = labels.long()[None, :, None].expand(len(logits), -1, -1)
        assert outcomes.labels[here].tolist() == labels.tolist()
        assert np.array_equal(outcomes.predictions[here].T, logits.argmax(-1).numpy())
        for found, expected in (
            (outcomes.log_confidences, softmax.gather(-1, truth)[..., 0]),
            (outcomes.log_tops, softmax.amax(-1)),
        ):
            assert_close(torch.from_numpy(np.exp(found[here].T.astype(np.float64))), expected, rtol=0, atol=1e-6)
        assert np.array_equal(outcomes.mean_predictions[here], softmax.mean(0).argmax(-1).numpy())
        with network.configure({}):
            assert np.array_equal(outcomes.static_predictions[here], network(images).argmax(-1).numpy())
            for name, view in outcomes.views.items():
                seen = [network(image).argmax(-1) for image in VIEWS[name](images, len(logits))]
                assert np.array_equal(view[here].T, torch.stack(seen).numpy())
    assert rows == len(outcomes.names)
    assert outcomes.permutations == network.permutations
    # Otherwise nothing has been shown.
    assert (outcomes.predictions != outcomes.predictions[:, :1]).any()
    assert (outcomes.mean_predictions != outcomes.static_predictions).any()


def assert_same(one: Outcomes, other: Outcomes) -> None:
    """Compare everything, bit for bit."""
    for field in fields(Outcomes):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "views":
            assert list(a) == list(b)
            for name in a:
                assert np.array_equal(a[name], b[name]), name
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes(), field.name
        else:
            assert a == b, field.name


@contextmanager
def watched(network: DynamicNetwork) -> Iterator[list[Tensor]]:
    """Give the images that reach the network's first layer, as they come."""
    seen: list[Tensor] = []
    hook = network.model.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    try:
        yield seen
    finally:
        hook.remove()


def numbers(seen: list[Tensor]) -> set[int]:
    return {int(image[0, 0, 0]) for images in seen for image in images}


class Stopped(Exception):
    """What a test stops an evaluation with."""


def stop_after(count: int):
    def on_progress(done: int, _: int | None) -> None:
        if done >= count:
            raise Stopped

    return on_progress


# What outcomes say


def test_outcomes_are_those_of_plain_passes(network):
    given = batches(5, 3, 20)
    outcomes = evaluate(network, given)
    assert_equals_plain_passes(outcomes, network, given)
    assert list(outcomes.views) == ["input zooms", "random crops"]
    for view in outcomes.views.values():
        assert view.shape == (28, 9)
        assert np.array_equal(view[:, 0], outcomes.static_predictions)
    assert outcomes.names == tuple(str(number) for number in range(28))
    assert (outcomes.network, outcomes.sites) == ("tiny", {"A": "a", "B": "b"})
    assert (outcomes.classes, outcomes.condition, outcomes.left_out) == (3, {}, {})
    assert (outcomes.default, outcomes.fingerprint) == (network.default, network.fingerprint)
    assert outcomes.macs.tolist() == network.macs.tolist()
    assert outcomes.static_macs == network.static_macs


@pytest.mark.parametrize("space", [Space(dilation=(2, 3)), Space(stride={"A": (1, 3)}, size={"A": (3,), "B": (1, 5)})])
def test_the_trained_network_is_evaluated_also_where_it_is_not_among_the_permutations(space):
    network, given = tiny(space), batches(24)
    assert network.default not in network.permutations
    outcomes = evaluate(network, given)
    assert_equals_plain_passes(outcomes, network, given)
    assert (outcomes.static_predictions[:, None] != outcomes.predictions).any(0).all()


def test_what_is_shared_and_what_is_seen_besides_changes_no_outcome(network):
    given = batches(6, 6)
    outcomes = evaluate(network, given)
    assert_same(evaluate(network, given, share=False), outcomes)
    alone = evaluate(network, given, controls=False)
    assert alone.views == {}
    assert_same(replace(outcomes, views={}), alone)


def test_batches_may_be_pairs_or_have_names_and_may_come_once(network):
    given = batches(4, 2)
    named = [Batch(*pair, tuple(f"{n}/{row}.png" for row in range(len(pair[1]))), ()) for n, pair in enumerate(given)]
    outcomes = evaluate(network, named)
    assert outcomes.names == ("0/0.png", "0/1.png", "0/2.png", "0/3.png", "1/0.png", "1/1.png")
    expected = evaluate(network, iter(given))
    assert_same(replace(outcomes, names=expected.names), expected)
    assert_same(evaluate(network, [[*pair, "more"] for pair in given]), expected)


def test_data_are_read_in_their_order_with_names_and_classes(network, data):
    outcomes = evaluate(network, data, batch_size=4)
    assert_equals_plain_passes(outcomes, network, read(data, 4))
    assert outcomes.names == tuple(f"clothes/validation/{name}/{n}.png" for name in CLASSES for n in range(6))
    assert outcomes.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    turned = evaluate(network, data, batch_size=4, classes=CLASSES[::-1])
    assert turned.labels.tolist() == [2] * 6 + [1] * 6 + [0] * 6
    assert np.array_equal(turned.predictions, outcomes.predictions)


def test_an_unreadable_image_is_left_out_and_shifts_no_other(network, tmp_path):
    data = write_images(tmp_path)
    whole = evaluate(network, data, batch_size=4, batches_per_part=2)
    for name in ("coat/3", "hat/0"):
        (tmp_path / "clothes" / "validation" / f"{name}.png").write_bytes(b"no image")
    outcomes = evaluate(network, data, batch_size=4, batches_per_part=2, out=tmp_path / "out")
    assert_equals_plain_passes(outcomes, network, read(data, 4))
    kept = [row for row in range(18) if row not in (3, 6)]
    assert outcomes.names == tuple(whole.names[row] for row in kept)
    assert outcomes.labels.tolist() == whole.labels[kept].tolist()
    assert_close(outcomes.log_confidences, whole.log_confidences[kept], rtol=0, atol=1e-5)


def test_predictions_hold_more_classes_than_two_bytes_do():
    network = tiny(classes=70_000)
    given = [(torch.randn(2, 3, 8, 8), torch.tensor([69_999, 0]))]
    outcomes = evaluate(network, given, controls=False)
    assert outcomes.predictions.dtype == outcomes.labels.dtype == np.uint32
    assert outcomes.labels.tolist() == [69_999, 0]
    assert_equals_plain_passes(outcomes, network, given)


def test_mixed_precision_is_close_to_the_whole_one(network):
    given = batches(16)
    exact, mixed = evaluate(network, given), evaluate(network, given, precision="bf16")
    assert not np.array_equal(exact.log_confidences, mixed.log_confidences)
    assert_close(np.exp(mixed.log_confidences), np.exp(exact.log_confidences), rtol=0, atol=0.1)


# Conditions


def test_enlarged_images_are_what_the_network_sees(network):
    given = batches(6)
    larger = [(F.interpolate(images, scale_factor=2, mode="bilinear"), labels) for images, labels in given]
    with watched(network) as seen:
        outcomes = evaluate(network, given, scale=2)
    assert {tuple(images.shape[2:]) for images in seen} == {(16, 16)}
    assert outcomes.condition == {"scale": 2}
    expected = evaluate(network, larger)
    assert np.array_equal(outcomes.predictions, expected.predictions)
    assert_close(outcomes.log_confidences, expected.log_confidences, rtol=0, atol=1e-5)
    for name, view in outcomes.views.items():
        assert np.array_equal(view, expected.views[name])
    at_16 = tiny(image_size=16)
    assert outcomes.macs.tolist() == at_16.macs.tolist()
    assert outcomes.static_macs == at_16.static_macs != network.static_macs


def test_context_shows_more_of_the_image_at_the_same_size_of_its_pixels(network, data):
    whole = replace(data, image_size=10, crop_ratio=1.0)  # 8 of 10 pixels are what the network sees otherwise
    with watched(network) as seen:
        outcomes = evaluate(network, data, context=10, batch_size=6)
    assert {tuple(images.shape[2:]) for images in seen} == {(10, 10)}
    assert outcomes.condition == {"context": 10}
    assert_equals_plain_passes(outcomes, network, read(whole, 6))
    inner, outer = read(data, 6)[0].images, read(whole, 6)[0].images
    assert torch.equal(outer[:, :, 1:9, 1:9], inner)
    with watched(network) as seen:
        both = evaluate(network, data, context=8, scale=1.5, controls=False)
    assert {tuple(images.shape[2:]) for images in seen} == {(12, 12)}
    assert both.condition == {"scale": 1.5, "context": 8}


def test_context_needs_data_and_no_more_pixels_than_there_are(network, data):
    with pytest.raises(ValueError, match=r"context=11: images are resized to 10 pixels, so give 1 to 10\."):
        evaluate(network, data, context=11)
    with pytest.raises(ValueError, match=r"context crops images as they are read: give `Data` instead of a loader"):
        evaluate(network, batches(2), context=4)


class Windowed(Tiny):
    """The last layer needs three pixels."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.b = nn.Conv2d(8, 16, 3)


def test_images_of_another_size_are_recounted_or_refused():
    network = tiny(Space(stride={"A": (1, 2, 3)}), kind=Windowed)
    assert (len(network.permutations), network.left_out) == (3, {})
    outcomes = evaluate(network, batches(4, side=12))
    larger = tiny(Space(stride={"A": (1, 2, 3)}), kind=Windowed, image_size=12)
    assert outcomes.macs.tolist() == larger.macs.tolist() != network.macs.tolist()
    match = (
        r"2 of 3 permutations cannot be computed for images of 4x4 pixels: a feature map would shrink to nothing\. "
        r"Give image_size=\(4, 4\) to DynamicNetwork, which leaves them out\."
    )
    with pytest.raises(ValueError, match=match):
        evaluate(network, batches(4, side=4))


# How the network is left


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was_found(fails):
    network = tiny()
    network.train()
    network.model.bn.eval()
    network.configure({"A": 0.5})
    modes = [layer.training for layer in network.modules()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    given = batches(4, 4)
    if fails:
        with pytest.raises(Stopped):
            evaluate(network, given, on_progress=stop_after(4))
    else:
        in_default = evaluate(tiny(), given)
        assert_same(evaluate(network, given), in_default)
    assert [layer.training for layer in network.modules()] == modes
    assert network.model.a.option == Option(stride=0.5)
    assert network.model.b.option == Option()
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key])
        assert value.device.type == "cpu"
        assert not value.is_inference()
    network(given[0][0]).sum().backward()  # it still learns


# Networks that cannot be followed layer by layer


class Rewriting(Tiny):
    """Writes into a value whose old name it reads afterwards, which a graph does not show."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn(self.stem(x)), 2)
        y = self.a(F.interpolate(x, scale_factor=2.0))
        x.mul_(y)
        return self.fc(self.b(self.act(x)).mean((2, 3)))


class Deciding(Tiny):
    """Decides in its pass what to compute."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.stem(x)))
        x = self.a(x) if x.shape[2] > 3 else x
        return self.fc(self.act(self.b(x)).mean((2, 3)))


@pytest.mark.parametrize("kind", [Rewriting, Deciding])
def test_a_network_that_no_graph_shows_is_evaluated_as_it_is(kind):
    network, given = tiny(Space(dilation=(1, 2, 3)), kind=kind), batches(10, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that its permutations share nothing
        outcomes = evaluate(network, given)
    assert_equals_plain_passes(outcomes, network, given)


# Parts


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


def test_progress_is_told_in_images(network, data):
    told: list[tuple[int, int | None]] = []
    evaluate(network, data, batch_size=7, on_progress=lambda *given: told.append(given))
    assert told == [(7, 18), (14, 18), (18, 18)]
    told.clear()
    evaluate(network, batches(3, 5), on_progress=lambda *given: told.append(given))
    assert told == [(3, None), (8, None)]


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


# Killed, and in several processes


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
        "from dynamic.test_evaluation import tiny\n"
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


# Errors


@pytest.mark.parametrize(("wrong", "told"), [(3, 3), (-1, -1)])
def test_labels_outside_the_classes_are_an_error(network, wrong, told):
    given = batches(4)
    given[0][1][2] = wrong
    match = rf"labels outside the classes: there is a label {told}, and the network has 3 classes, 0 to 2\."
    with pytest.raises(ValueError, match=match):
        evaluate(network, given)


def test_data_of_other_classes_are_an_error(network, data):
    with pytest.raises(ValueError, match=r"the network has 4 classes and the data 3: they do not belong together\."):
        evaluate(tiny(classes=4), data)
    with pytest.raises(ValueError, match=r"the network has 3 classes and the data 2"):
        evaluate(network, batches(2), classes=("a", "b"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(network, value):
    given = batches(4, 4)
    given[1][0][0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"the logits of .*permutation.* not finite numbers\. Use precision='no', and"):
        evaluate(network, given)


def test_there_must_be_an_image(network, tmp_path):
    for out in (None, tmp_path):
        with pytest.raises(ValueError, match=r"there is no image to evaluate\. Check data\.root, or the loader\."):
            evaluate(network, [], out=out)


class WritesIntoItsImages(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(1.0))


@pytest.mark.parametrize("share", [True, False])
def test_a_network_that_writes_into_its_images_spoils_no_other_pass(share):
    network = tiny(kind=WritesIntoItsImages)
    given = batches(3, 2)
    before = [images.clone() for images, _ in given]
    found = evaluate(network, given, share=share)
    with torch.no_grad():
        wanted = [logits.argmax(2).T for _, _, logits in logits_of(network, given)]
        static = torch.cat([network(images.clone()).argmax(1) for images, _ in given])
    assert np.array_equal(found.predictions, torch.cat(wanted).numpy())
    assert np.array_equal(found.static_predictions, static.numpy())
    assert all(np.array_equal(view[:, 0], found.static_predictions) for view in found.views.values())
    assert all(torch.equal(images, old) for (images, _), old in zip(given, before, strict=True))


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


def test_images_of_several_sizes_are_refused(network):
    with pytest.raises(ValueError, match=r"images of 8x8 and of 12x12 pixels: what a permutation costs"):
        evaluate(network, [*batches(2), *batches(2, side=12)], controls=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, r"precision='fp8' is none of no, bf16, fp16\."),
        ({"batch_size": 0}, "batch_size=0 and batches_per_part=8 must be 1 or more"),
        ({"batches_per_part": 0}, "batch_size=32 and batches_per_part=0 must be 1 or more"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(network, batches(2), **options)


def test_unreadable_images_are_named_even_where_a_part_has_no_other(tmp_path):
    data = write_images(tmp_path)
    torn = sorted((tmp_path / "clothes" / "validation" / "coat").iterdir())[:2]
    for file in torn:
        file.write_bytes(b"torn")
    found = evaluate(tiny(), data, out=tmp_path / "out", batch_size=2, batches_per_part=1, controls=False)
    assert len(found.names) == 16
    assert [name.split(" ")[0].split("/")[-1] for name in found.skipped] == [file.name for file in torn]
    assert Outcomes.load(tmp_path / "out" / "outcomes.safetensors").skipped == found.skipped


class LeavesItsOptionsBehind(Tiny):
    """Writes what one option of B computes into what the next one starts from, by a way that no graph shows."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.stem(x)))
        x = self.a(x)
        y = self.b(x).mean((2, 3))
        torch.add(x[:, :1], 1.0, out=x[:, :1])
        return self.fc(y + x.mean())


def test_writing_by_out_takes_whole_passes():
    network, given = tiny(kind=LeavesItsOptionsBehind), batches(3)
    with pytest.warns(UserWarning, match="whole pass"):
        found = evaluate(network, given, controls=False)
    with torch.no_grad():
        ((_, _, logits),) = logits_of(network, given)
    assert np.array_equal(found.predictions, logits.argmax(2).T.numpy())
