"""Evaluation is checked against sums done by hand: a network whose answers are written into its images."""

from math import log

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close
from training.recipes_for_tests import DIGITS

import plainvision as pv
from plainvision.data.batches import Batch, EvaluationBatches
from plainvision.training import evaluate
from plainvision.training.evaluation import Prediction, data_of
from plainvision.training.recipe import Data

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")
# What the network answers, class by class, and what is true: right, last of six, fifth, right, second.
PROBABILITIES = [
    (0.50, 0.20, 0.12, 0.10, 0.05, 0.03),
    (0.50, 0.20, 0.12, 0.10, 0.05, 0.03),
    (0.02, 0.55, 0.20, 0.10, 0.07, 0.06),
    (0.10, 0.60, 0.12, 0.08, 0.06, 0.04),
    (0.30, 0.40, 0.12, 0.10, 0.05, 0.03),
]
LABELS = [0, 5, 5, 1, 0]


class Known(nn.Module):
    """Answers what its images say: (B, K, 1, 1) -> (B, K)."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))
        self.part = nn.Dropout()
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes += [self.training, self.part.training, torch.is_grad_enabled()]
        return x.flatten(1) * self.one


class Constant(nn.Module):
    """Names the same class for every image."""

    def __init__(self, answer: int, classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(10 * torch.eye(classes)[answer])

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def batch(rows: slice = slice(None), classes: int = 6, skipped: tuple[str, ...] = ()) -> Batch:
    logits = torch.tensor(PROBABILITIES[rows])[:, :classes].log()
    names = tuple(f"zoo/{number}.png" for number in range(len(LABELS)))[rows]
    return Batch(logits[:, :, None, None], torch.tensor(LABELS[rows]), names, skipped)


def test_it_counts_as_one_does_by_hand():
    found = evaluate(Known(), [batch()], classes=CLASSES)
    assert found.images == 5
    assert found.top1 == pytest.approx(40)
    assert found.top5 == pytest.approx(80)
    assert found.loss == pytest.approx(-(log(0.50) + log(0.03) + log(0.06) + log(0.60) + log(0.30)) / 5)
    assert found.per_class == pytest.approx({"ant": 50, "bee": 100, "fox": 0})  # the others have no image


def test_how_the_images_fall_into_batches_does_not_matter():
    whole = evaluate(Known(), [batch()], classes=CLASSES)
    parts = evaluate(Known(), [batch(slice(1)), batch(slice(1, 5))], classes=CLASSES)
    assert parts.loss == pytest.approx(whole.loss)
    assert (parts.top1, parts.top5, parts.images) == (whole.top1, whole.top5, whole.images)
    assert parts.per_class == whole.per_class
    assert [p.name for p in parts.predictions] == [p.name for p in whole.predictions]


def test_every_answer_is_kept_with_its_name_and_confidence():
    found = evaluate(Known(), [batch(slice(3)), batch(slice(3, 5))], classes=CLASSES).predictions
    assert [(p.name, p.label, p.predicted) for p in found] == [
        ("zoo/0.png", "ant", "ant"),
        ("zoo/1.png", "fox", "ant"),
        ("zoo/2.png", "fox", "bee"),
        ("zoo/3.png", "bee", "bee"),
        ("zoo/4.png", "ant", "bee"),
    ]
    assert [p.confidence for p in found] == pytest.approx([0.5, 0.5, 0.55, 0.6, 0.4])


def test_fewer_than_five_classes_are_all_among_the_first_five():
    pictures = Batch(batch(slice(3, 5), classes=3).images, torch.tensor([1, 0]), ("a", "b"), ())
    found = evaluate(Known(), [pictures], classes=CLASSES[:3])
    assert (found.top1, found.top5) == (50, 100)
    assert found.loss == pytest.approx(-(log(0.60 / 0.82) + log(0.30 / 0.82)) / 2)


def test_unreadable_images_are_named_and_not_counted():
    empty = Batch(torch.empty(0), torch.empty(0, dtype=torch.int64), (), ("zoo/8.png (damaged)",))
    found = evaluate(Known(), [batch(skipped=("zoo/7.png (empty)",)), empty], classes=CLASSES)
    assert found.images == 5
    assert found.skipped == ("zoo/7.png (empty)", "zoo/8.png (damaged)")


def test_processes_add_up_what_each_has_counted():
    whole = evaluate(Known(), [batch()], classes=CLASSES)
    sums: list[Tensor] = []

    def listen(mine: Tensor) -> Tensor:
        sums.append(mine)
        return mine

    evaluate(Known(), [batch(slice(2))], classes=CLASSES, total=listen)
    others = iter(sums)
    found = evaluate(Known(), [batch(slice(2, 5))], classes=CLASSES, total=lambda mine: mine + next(others))
    assert (found.top1, found.top5, found.images) == (whole.top1, whole.top5, 5)
    assert found.per_class == whole.per_class
    assert found.loss == pytest.approx(whole.loss)
    assert [p.name for p in found.predictions] == ["zoo/2.png", "zoo/3.png", "zoo/4.png"]  # its own
    others = iter(sums)
    idle = evaluate(Known(), [], classes=CLASSES, total=lambda mine: mine + next(others))
    assert (idle.top1, idle.images, idle.predictions) == (50, 2, ())


def test_the_network_answers_in_eval_mode_and_goes_back_to_its_own():
    model = Known().train()
    model.part.eval()  # a part that is frozen
    evaluate(model, [batch()], classes=CLASSES)
    assert model.modes == [False, False, False]
    assert (model.training, model.part.training) == (True, False)
    with pytest.raises(ValueError, match="6 classes and the data 2"):
        evaluate(model, [batch()], classes=CLASSES[:2])
    assert (model.training, model.part.training) == (True, False)
    evaluate(model.eval(), [batch()], classes=CLASSES)
    assert not model.training


def test_no_weight_and_no_statistic_moves():
    model = pv.create_model("vanillanet_5", width=1 / 64, num_classes=6).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pictures = Batch(torch.randn(5, 3, 64, 64), torch.tensor(LABELS), ("",) * 5, ())
    first = evaluate(model, [pictures], classes=CLASSES, device="cpu")
    assert first == evaluate(model, [pictures], classes=CLASSES)
    for key, value in model.state_dict().items():
        assert_close(value, before[key], rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    model(pictures.images).sum().backward()  # nothing that inference mode made is left inside


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (CLASSES[:2], r"the network has 6 classes and the data 2 \(ant, bee\): they do not belong together"),
        (
            (*CLASSES, "gnu"),
            r"the network has 6 classes and the data 7 \(ant, bee, cat, dog, eel, \.\.\.\): .*Evaluate on",
        ),
    ],
)
def test_classes_that_do_not_belong_to_the_network_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Known(), [batch()], classes=classes)


def test_batches_must_come_with_classes():
    with pytest.raises(ValueError, match=r"do not say what the logits mean: give `classes` too"):
        evaluate(Known(), [batch()])


def test_no_image_is_an_error():
    empty = Batch(torch.empty(0), torch.empty(0, dtype=torch.int64), (), ("zoo/8.png (damaged)",))
    for nothing in ([], [empty]):
        with pytest.raises(ValueError, match=r"no image to evaluate: .*Check data\.root"):
            evaluate(Known(), nothing, classes=CLASSES)


def test_a_data_sets_own_validation_split_is_read():
    found = evaluate(Constant(3, 10), DIGITS, batch_size=100)
    assert found.images == 360
    assert found.per_class == {str(digit): 100.0 * (digit == 3) for digit in range(10)}
    assert found.top1 == pytest.approx(100 * sum(p.label == "3" for p in found.predictions) / 360)
    assert found.predictions[0].name.startswith("digits/validation/")


def test_folders_are_matched_to_the_classes_by_name(tmp_path):
    for name in ("cat", "fox"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), 90, dtype=np.uint8)).save(tmp_path / "zoo" / name / "1.png")
    (tmp_path / "zoo" / "fox" / "2.png").write_bytes(b"not an image")
    data = Data(root=str(tmp_path / "zoo"), image_size=8, workers=0)
    found = evaluate(Constant(5, 6), data, classes=CLASSES)
    assert found.per_class == {"cat": 0, "fox": 100}
    confidence = torch.tensor([10.0, 0, 0, 0, 0, 0]).softmax(0)[0].item()
    assert found.predictions == (
        Prediction("zoo/cat/1.png", "cat", "fox", pytest.approx(confidence), pytest.approx(10, abs=1e-3)),
        Prediction("zoo/fox/1.png", "fox", "fox", pytest.approx(confidence), pytest.approx(0, abs=1e-3)),
    )
    (skipped,) = found.skipped
    assert skipped.startswith("zoo/fox/2.png (")


def test_a_temperature_changes_confidences_and_no_class():
    batches = EvaluationBatches(DIGITS, batch_size=100)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, 10))
    plain, cooled = (evaluate(network, batches, temperature=value) for value in (1.0, 3.0))
    assert (plain.top1, plain.top5) == (cooled.top1, cooled.top5)
    assert [p.predicted for p in plain.predictions] == [p.predicted for p in cooled.predictions]
    logits = torch.cat([network(batch.images) for batch in batches]).detach() / 3
    assert_close(torch.tensor([p.confidence for p in cooled.predictions]), logits.softmax(1).amax(1))
    labels = torch.cat([batch.labels for batch in batches])
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert_close(torch.tensor([p.loss for p in cooled.predictions]), losses)
    assert cooled.loss == pytest.approx(losses.mean().item())


def test_an_image_is_found_by_its_name():
    batches = EvaluationBatches(DIGITS, batch_size=100)
    first = next(iter(batches)).names[0]
    assert batches.picture(first).size == (8, 8)
    assert batches.picture(first).mode == "RGB"
    with pytest.raises(ValueError, match="0 images are called 'elsewhere'"):
        batches.picture("elsewhere")


def test_a_network_says_how_its_images_are_prepared():
    assert data_of(pv.create_model("vanillanet_5", width=1 / 64)).image_size == 224
    grey = data_of(pv.create_model("test_vit"))  # timm's
    assert (grey.image_size, grey.channels, grey.crop_ratio) == (160, 3, 0.95)
    with pytest.raises(ValueError, match=r"Known does not say how its images are prepared\. Give a `Data` yourself"):
        data_of(Known())
