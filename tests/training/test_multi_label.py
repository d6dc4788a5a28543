"""Runs whose images have sets of labels: the loss, resuming, the header, predictions and deployed forms."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch.testing import assert_close
from training.label_sets_for_tests import LABELS, recipe_of, write_images
from training.test_resume import assert_same_run

import plainvision as pv
from plainvision.confidences import confidences_of
from plainvision.data.batches import Batch
from plainvision.processes import TrainingInterrupted
from plainvision.training import Machine, loop, train
from plainvision.training.calibrating import calibrate
from plainvision.training.label_evaluation import LabelEvaluation
from plainvision.training.label_loss import LabelLoss, rare_weights
from plainvision.training.loop import Result
from plainvision.training.multi_label import MultiLabel, multi_label
from plainvision.training.network_words import network_words
from plainvision.training.recipe import Augment, Recipe
from plainvision.training.techniques import Distillation
from plainvision.training.weights_file import load_network


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("colours"), 120)


@pytest.fixture(scope="module")
def run(labels, tmp_path_factory) -> Result:
    return train(recipe_of(labels), tmp_path_factory.mktemp("runs") / "colours")


def loss_of(**changes) -> LabelLoss:
    recipe = multi_label(Recipe(name="r", model="vanillanet_5", **{"loss": "bce", "label_smoothing": 0.0, **changes}))
    return LabelLoss(recipe)


SETS = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.float32)


# the loss


def test_the_loss_is_binary_cross_entropy_over_softened_marks():
    logits = torch.randn(4, 3)
    ((count, part),) = loss_of(label_smoothing=0.2).parts(Batch(torch.rand(4, 3, 8, 8), SETS, (), ()), 1)
    assert_close(part[1], SETS * 0.8 + 0.1)
    loss, right = loss_of().loss(logits, part)
    assert (count, right) == (4, None)
    assert_close(loss, F.binary_cross_entropy_with_logits(logits, part[1]))


def test_parts_of_a_batch_have_the_mean_loss_of_the_whole():
    objective, images = loss_of(), torch.rand(4, 3, 8, 8)
    logits = torch.randn(4, 3)
    parts = objective.parts(Batch(images, SETS, (), ()), 2)
    losses = [objective.loss(own, part)[0] for own, (_, part) in zip(logits.chunk(2), parts, strict=True)]
    assert_close(sum(losses) / 2, F.binary_cross_entropy_with_logits(logits, SETS))


def test_a_mixed_image_has_its_share_of_the_labels_of_both():
    np.random.seed(0)
    images = torch.stack([torch.full((3, 8, 8), float(value)) for value in (0, 1, 0, 1)])
    ((_, (mixed, targets)),) = loss_of(augment=Augment(mixup=1.0)).parts(Batch(images.clone(), SETS, (), ()), 1)
    share = (1 - mixed[0, 0, 0, 0]).item()  # of the first image, the rest being the last one's
    assert 0 < share < 1
    assert_close(targets, share * SETS + (1 - share) * SETS.flip(0))
    marks = loss_of(bce_threshold=0.4).targets(targets)
    assert_close(marks, (targets > 0.4).float())


def test_rare_labels_weigh_as_much_as_their_lack():
    sets = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]], bool)
    weights = rare_weights(sets)
    assert weights.tolist() == pytest.approx([3, 1, 1 / 3])
    objective = LabelLoss(loss_of().recipe, weights)
    part = (torch.empty(0), torch.tensor(sets, dtype=torch.float32))
    loss, _ = objective.loss(torch.zeros(4, 3), part)
    assert_close(loss, torch.tensor(np.log(2) * (6 + 4 + 2) / 12, dtype=torch.float32))


# runs


def test_a_run_learns_tells_its_score_and_keeps_the_best_weights(run):
    last = run.last
    assert isinstance(last, LabelEvaluation)
    assert (run.classes, last.images) == (LABELS, 30)
    assert run.best_score >= last.map > 100 * last.predictions.truth.mean()
    text = (run.folder / "report.html").read_text()
    for words in ("Mean average precision is", "best mAP", "macro F1 at 0.5", "The labels", "The largest losses"):
        assert words in text
    assert "no report" not in text
    metrics = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in metrics if "map" in line]
    assert len(epochs) == 3
    assert epochs[-1].keys() >= {"map", "macro_f1", "micro_f1", "validation_loss"}


def test_the_header_says_what_the_logits_mean_and_is_read_strictly(run, tmp_path):
    _, origin = load_network(run.folder)
    assert origin.recipe.task == MultiLabel(0.5)
    with safe_open(run.folder / "best.safetensors", "pt") as file:
        tensors, words = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    header = json.loads(words["plainvision"])
    assert header["recipe"]["task"] == {"task": "MultiLabel", "threshold": 0.5}
    from plainvision.models.reading import save_tensors

    for task, message in (
        ({"task": "MultiLabel", "threshold": 2}, r"MultiLabel: threshold=2 must not be negative, nor above 1"),
        ({"task": "MultiLabel", "threshold": "0.5"}, r"MultiLabel\.threshold is '0\.5', and must be a number"),
        ({"task": "MultiLabel", "more": 1}, r"MultiLabel has the unknown field 'more'"),
        ({"task": "ImageTask"}, r"its task is 'ImageTask', and this command knows"),
        ({"task": "SceneTask"}, r"its task is 'SceneTask', and this command knows"),
    ):
        header["recipe"]["task"] = task
        save_tensors(tmp_path / "edited.safetensors", tensors, {"plainvision": json.dumps(header)})
        with pytest.raises(ValueError, match=message):
            load_network(tmp_path / "edited.safetensors")


def test_a_resumed_run_is_the_run_that_was_never_stopped(labels, tmp_path, monkeypatch):
    recipe = recipe_of(
        labels,
        augment=Augment(scale=(0.6, 1.0), mixup=0.2, cutmix=1.0),
        class_weights="balanced",
        machine=Machine(threads=1, log_steps=2, checkpoint_steps=2),
    )
    train(recipe, tmp_path / "whole")
    step = loop._Run.step

    def stopped(run, batch):
        if run.state.step == 8:
            raise KeyboardInterrupt
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", stopped)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "broken")
    monkeypatch.undo()
    train(recipe, tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_drawn_split_is_trained_and_scored_on_its_parts(labels, tmp_path):
    recipe = recipe_of(labels, epochs=1)
    recipe = replace(recipe, data=replace(recipe.data, validation_share=0.2, validation_split="none"))
    text = labels.read_text().replace(",validation", ",train")
    (tmp_path / "labels.csv").write_text(text)
    data = replace(recipe.data, labels=str(tmp_path / "labels.csv"), root=str(labels.parent / "images"))
    result = train(replace(recipe, data=data), tmp_path / "run")
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert {Path(name).name for name in result.last.names} == set(split["validation"])
    assert 20 <= len(split["validation"]) <= 28


def test_what_asks_for_one_class_is_refused_before_the_run(labels, tmp_path):
    recipe = recipe_of(labels)
    for changes, message in (
        ({"loss": "cross_entropy"}, r"loss='cross_entropy' asks which one class an image has.*Set loss='bce'"),
        ({"techniques": (Distillation("runs/a"),)}, r"Distillation learns from what a teacher thinks of the one class"),
        ({"num_classes": 4}, r"num_classes=4, but the data has 3 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            train(replace(recipe, **changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_csv_of_sets_is_not_taken_for_classes(labels, tmp_path):
    recipe = recipe_of(labels)
    from plainvision.training.classification import Classification

    with pytest.raises(
        ValueError, match=r"must be image,label or.*where an image has a set of labels, train with --multi"
    ):
        train(replace(recipe, task=Classification()), tmp_path / "run")


# answers


def test_predictions_are_those_of_evaluation_one_by_one(run, labels):
    network = network_words(str(run.folder)).load(weights="last")
    images = network.task.images(recipe_of(labels).data, batch_size=7, classes=network.classes)
    for threshold in (None, 0.3):
        own = network.with_threshold(threshold)
        scored = own.task.evaluate(own.model, images, classes=LABELS, device=None)
        paths = [str(labels.parent / name) for name in scored.names]
        found = list(
            pv.predict(own.model, paths, classes=LABELS, data=own.data, threshold=own.threshold, top=1, batch_size=5)
        )
        assert len(found) == scored.images
        for index, answer in enumerate(found):
            assert answer.labels is not None
            assert set(answer.labels) == set(scored.given_to(index))
            assert len(answer.classes) == len(answer.confidences) == 1
            best = scored.predictions.confidences[index].max()
            assert answer.confidences[0] == pytest.approx(best, abs=1e-6)
    by_path = list(pv.predict(run.folder, paths[:3]))
    assert all(answer.labels is not None and len(answer.classes) == 3 for answer in by_path)


def test_a_threshold_is_refused_for_networks_of_one_class(tmp_path):
    from plainvision.recipes import get_recipe
    from plainvision.training.weights_file import Origin, build_network, save_network

    recipe = replace(get_recipe("vanillanet_digits"), techniques=())
    network = build_network(recipe, 10, 0)
    file = tmp_path / "one.safetensors"
    save_network(file, network.state_dict(), Origin(recipe, tuple("0123456789"), 0))
    with pytest.raises(ValueError, match=r"threshold=0\.4 and .*one\.safetensors, which names the one class"):
        pv.predict(file, ["a.png"], threshold=0.4)
    with pytest.raises(ValueError, match=r"threshold=0\.4 is for networks that give an image a set of labels"):
        network_words(str(file)).load().with_threshold(0.4)
    with pytest.raises(ValueError, match=r"threshold=1\.4 is no confidence\. Give a number from 0 to 1"):
        pv.predict(file, ["a.png"], threshold=1.4)


def test_a_loaded_network_answers_sigmoids(run):
    loaded = pv.load(run.folder)
    images = torch.randn(2, 3, 32, 32)
    assert loaded.threshold == 0.5
    with torch.inference_mode():
        assert_close(loaded.confidences(images), loaded.network(images).sigmoid())


def test_an_explanation_has_sigmoids(run):
    from plainvision.explain.deletion import deletion
    from plainvision.explain.explanation import explain_image

    loaded = pv.load(run.folder)
    image = torch.randn(3, 32, 32)
    told = explain_image(loaded.network, image, torch.rand(3, 32, 32), names=LABELS, classes=[1], threshold=0.5)
    wanted = float(loaded.confidences(image[None])[0, 1])
    assert told.confidences == (pytest.approx(wanted, abs=1e-6),)
    (found,) = deletion(loaded.network, image, told.maps, [1], threshold=0.5)
    assert found.by_map[0] == pytest.approx(wanted, abs=1e-6)


def test_a_deployed_folder_gives_the_labels_of_the_network(run, labels, tmp_path):
    network = network_words(str(run.folder)).load()
    given: dict = {"preprocessing": pv.deploy.Preprocessing.of(network.data), "classes": LABELS, "threshold": 0.4}
    pv.deploy.export(network.model, tmp_path / "made", **given)
    assert json.loads((tmp_path / "made" / "deploy.json").read_text())["threshold"] == 0.4
    paths = sorted(str(path) for path in (labels.parent / "images").glob("1*.png"))[:8]
    wanted = list(pv.predict(network.model, paths, data=network.data, classes=LABELS, threshold=0.4))
    for found in (list(pv.deploy.load(tmp_path / "made").predict(paths)), list(pv.predict(tmp_path / "made", paths))):
        assert [one.labels for one in found] == [one.labels for one in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.confidences == pytest.approx(other.confidences, abs=1e-3)
    done = subprocess.run(
        [sys.executable, tmp_path / "made" / "predict.py", *paths], capture_output=True, text=True, check=True
    )
    said = [line.split()[1::2] for line in done.stdout.splitlines()]
    assert said == [list(one.labels or ()) for one in wanted]


def test_a_form_of_lower_precision_is_refused(run, tmp_path):
    network = network_words(str(run.folder)).load()
    how = pv.deploy.Preprocessing.of(network.data)
    with pytest.raises(ValueError, match=r"threshold=0\.5 and int8: the gate compares the one class of an image"):
        pv.deploy.export(network.model, tmp_path / "made", preprocessing=how, precision="int8", threshold=0.5)
    with pytest.raises(ValueError, match=r"threshold=0\.5 is for .* no labels are named. Give their names as classes"):
        pv.deploy.export(network.model, tmp_path / "made", preprocessing=how, threshold=0.5)
    assert not (tmp_path / "made").exists()


def test_confidences_are_calibrated_as_sigmoids():
    from plainvision.confidences import fit_temperature

    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 5))
    marks = random.random((4000, 5)) < 1 / (1 + np.exp(-logits / 3))
    assert fit_temperature(logits, marks.astype(np.float32)) == pytest.approx(3, rel=0.05)
    scaled = confidences_of(torch.tensor([[3.0, -3.0]]), 0.5, 3.0)
    assert_close(scaled, torch.tensor([[1.0, -1.0]]).sigmoid())


def test_a_temperature_is_fitted_on_images_of_which_some_have_wrong_labels(labels, tmp_path):
    class Colours(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # prepared by a mean of 0 and a std of 1
            return 40 * (x.mean((2, 3)).flip(1) - 0.45)

    lines = labels.read_text().splitlines()
    wrong = [
        line.replace(",", ",red|", 1) if number % 5 == 1 and "red" not in line else line
        for number, line in enumerate(lines)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(wrong).replace("red|,", "red,"))
    data = replace(recipe_of(labels).data, labels=str(tmp_path / "labels.csv"), mean=(0.0,) * 3, std=(1.0,) * 3)
    images = MultiLabel().images(data, batch_size=16, classes=LABELS)
    fitted = calibrate(Colours(), images)
    assert fitted.temperature > 1.5
    assert fitted.after < fitted.before
    scores = [
        MultiLabel().evaluate(Colours(), images, classes=LABELS, device=None, temperature=t)
        for t in (1.0, fitted.temperature)
    ]
    assert scores[1].loss < scores[0].loss
    assert (scores[0].predictions.given == scores[1].predictions.given).all()
