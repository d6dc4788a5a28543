"""Outcomes, against one plain pass after the other."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dynamic.evaluations_for_tests import (
    CLASSES,
    Stopped,
    Tiny,
    assert_equals_plain_passes,
    assert_same,
    batches,
    logits_of,
    read,
    stop_after,
    tiny,
    watched,
    write_images,
)
from torch import Tensor, nn
from torch.testing import assert_close

from plainvision.data.rows import Batch
from plainvision.dynamic import DynamicNetwork, Outcomes, Space, evaluate
from plainvision.layers.dynamic_conv import Option
from plainvision.training.recipe import Data


@pytest.fixture(scope="module")
def network() -> DynamicNetwork:
    return tiny()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return write_images(tmp_path_factory.mktemp("images"))


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


def test_progress_is_told_in_images(network, data):
    told: list[tuple[int, int | None]] = []
    evaluate(network, data, batch_size=7, on_progress=lambda *given: told.append(given))
    assert told == [(7, 18), (14, 18), (18, 18)]
    told.clear()
    evaluate(network, batches(3, 5), on_progress=lambda *given: told.append(given))
    assert told == [(3, None), (8, None)]


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
