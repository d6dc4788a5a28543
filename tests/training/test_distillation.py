"""Distillation: what it adds to the loss, what the teacher sees, and that a run resumes with the same teacher alone."""

import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.testing import assert_close
from training.recipes_for_tests import EVERYTHING, FEW, PLAIN, TINY

import plainvision as pv
from plainvision.data.settings import RECORDED, Data
from plainvision.processes import TrainingInterrupted
from plainvision.tasks.learning import Detection
from plainvision.training import Recipe, loop, train
from plainvision.training.recipe import as_recorded
from plainvision.training.run_folder import recorded_recipe
from plainvision.training.state import State
from plainvision.training.techniques import Distillation
from plainvision.training.techniques.distillation import _Teacher
from plainvision.training.weights_file import Origin, save_network

DIGITS = tuple(map(str, range(10)))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A weights file of ours, whose images are coloured, larger and normalised otherwise than the student's."""
    torch.manual_seed(1)
    recipe = Recipe(
        "teacher", "resnet20_cifar", {"width": 1 / 4}, data=Data(image_size=48, mean=(0.5,) * 3, std=(0.5,) * 3)
    )
    file = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    model = pv.create_model(recipe.model, num_classes=10, **recipe.model_options)
    save_network(file, model.state_dict(), Origin(recipe, DIGITS, 0))
    return str(file)


def distilled(recipe, teacher, **options):
    return replace(recipe, name="distilled", techniques=(*recipe.techniques, Distillation(teacher, **options)))


def started(teacher, data=FEW, **options) -> tuple[Distillation, State]:
    technique = Distillation(teacher, **options)
    state = State(torch.nn.Linear(1, 1), classes=DIGITS, data=data)
    technique.start(state)
    return technique, state


def test_the_loss_is_the_labels_share_and_the_softened_divergence(teacher):
    technique, state = started(teacher, temperature=2.0, weight=0.3)
    images, logits = torch.randn(4, 1, 32, 32), torch.randn(4, 10)
    wanted = state.notes[Distillation](images)
    p, q = (wanted / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    found = technique.loss(state, (images, None, None), logits, torch.tensor(5.0))
    assert_close(found, 0.7 * 5 + 0.3 * 4 * divergence)


def test_a_student_that_answers_as_the_teacher_does_has_no_divergence_left(teacher):
    technique, state = started(teacher, weight=1.0)
    images = torch.randn(4, 1, 32, 32)
    logits = state.notes[Distillation](images).requires_grad_()
    loss = technique.loss(state, (images, None, None), logits, torch.tensor(5.0))
    loss.backward()
    assert_close((loss.detach(), logits.grad), (torch.tensor(0.0), torch.zeros(4, 10)), rtol=0, atol=1e-5)


def test_the_teacher_sees_an_image_as_its_own_preparation_would_show_it():
    pixels = torch.rand(2, 3, 24, 24)
    student = Data(image_size=24, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    own = Data(image_size=24, mean=(0.6, 0.5, 0.4), std=(0.3, 0.2, 0.1))
    seen = []
    model = torch.nn.Conv2d(3, 1, 1)
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))

    def normal(data):
        mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
        return (pixels - mean) / std

    _Teacher(model, student, own)(normal(student))
    assert_close(seen[0], normal(own))
    _Teacher(model, student, replace(own, image_size=48))(normal(student))
    larger = F.interpolate(normal(own), (48, 48), mode="bicubic", antialias=True)
    assert_close(seen[1], larger, rtol=1e-4, atol=1e-4)
    _Teacher(model, replace(student, channels=1, mean=(0.1,), std=(0.4,)), own)((pixels[:, :1] - 0.1) / 0.4)
    pixels = pixels[:, :1].expand(2, 3, 24, 24)
    assert_close(seen[2], normal(own))


def test_a_teacher_for_grey_images_refuses_coloured_ones():
    grey = Data(channels=1, mean=(0.5,), std=(0.5,))
    with pytest.raises(ValueError, match=r"takes grey images.*data\.channels=1"):
        _Teacher(torch.nn.Conv2d(1, 1, 1), Data(), grey)


def test_a_run_learns_from_the_teacher_and_records_its_weights(teacher, tmp_path):
    recipe = distilled(PLAIN, teacher, weight=1.0)
    result = train(recipe, tmp_path / "run")
    plain = train(PLAIN, tmp_path / "plain")
    found = pv.training.Recipe.from_dict(pv.training.run_folder.read_asked(tmp_path / "run" / "recipe.json"))
    fingerprint = found.techniques[0].fingerprint
    assert len(fingerprint) == 64
    ours, others = (dict(one.network.state_dict()) for one in (result, plain))
    assert any(not torch.equal(ours[key], others[key]) for key in ours)
    loaded = pv.load(tmp_path / "run" / "last.safetensors")  # which needs no teacher
    assert loaded.classes == DIGITS


def test_a_resumed_run_is_bit_equal_to_one_that_was_never_stopped(teacher, tmp_path, monkeypatch):
    recipe = distilled(EVERYTHING, teacher)
    whole = train(recipe, tmp_path / "whole").network.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "everyone_stops", lambda run, _: run.state.step == 13)
        with pytest.raises(TrainingInterrupted):
            train(recipe, tmp_path / "parts")
    parts = train(recipe, tmp_path / "parts", resume=True).network.state_dict()
    assert_close(parts, whole, rtol=0, atol=0)


def test_a_run_is_not_resumed_with_another_teacher(teacher, tmp_path):
    file = shutil.copy(teacher, tmp_path / "teacher.safetensors")
    train(distilled(TINY, str(file)), tmp_path / "run")
    train(distilled(TINY, str(file)), tmp_path / "run", resume=True)
    network, origin = pv.training.weights_file.load_network(file)
    other = {key: value + 1 if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_network(file, other, origin)
    with pytest.raises(ValueError, match=r"differs in techniques\.0\.fingerprint"):
        train(distilled(TINY, str(file)), tmp_path / "run", resume=True)
    given = recorded_recipe(tmp_path / "run", distilled(TINY, str(file)))
    with pytest.raises(ValueError, match=r"has other weights than the run's teacher had.*Give the run's own teacher"):
        train(given, tmp_path / "run", resume=True)


def test_classes_in_another_order_are_refused(teacher):
    state = State(torch.nn.Linear(1, 1), classes=("1", "0", *DIGITS[2:]), data=FEW)
    with pytest.raises(ValueError, match=r"in order: it has '0' where the data have '1'.*Give a teacher"):
        Distillation(teacher).start(state)
    fewer = State(torch.nn.Linear(1, 1), classes=DIGITS[:9], data=FEW)
    with pytest.raises(ValueError, match="has 10 classes and the data 9"):
        Distillation(teacher).start(fewer)


def test_a_teacher_by_name_brings_its_checkpoint(tmp_path):
    model = pv.create_model("resnet20_cifar", num_classes=10, width=1 / 4)
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    name = "resnet20_cifar:num_classes=10,width=0.25"
    _, state = started(name, checkpoint=str(tmp_path / "plain.safetensors"))
    assert state.notes[Distillation](torch.randn(2, 1, 32, 32)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"cannot load the teacher resnet20_cifar.*no weights.*--checkpoint"):
        started(name)
    with pytest.raises(FileNotFoundError, match=r"cannot load the teacher nowhere/run"):
        started("nowhere/run")


def test_a_task_without_logits_of_classes_is_refused(teacher):
    recipe = replace(distilled(TINY, teacher), task=Detection())
    with pytest.raises(ValueError, match=r"the logits of two classifiers.*`plainvision detect`\. Drop it"):
        recipe.techniques[0].check(recipe)


def test_two_teachers_are_refused(teacher, tmp_path):
    with pytest.raises(ValueError, match="a run has one teacher"):
        train(distilled(distilled(TINY, teacher), teacher), tmp_path / "run")


def test_a_recipe_from_a_file_opens_no_teacher(teacher, tmp_path):
    recorded = as_recorded(distilled(TINY, teacher, checkpoint="https://example.org/weights.safetensors"))
    (technique,) = recorded.techniques
    assert technique.teacher == RECORDED + teacher
    assert technique.checkpoint == f"{RECORDED}https://example.org/weights.safetensors"
    with pytest.raises(ValueError, match=r"records .*teacher.safetensors.*opens nothing.*--techniques\.N\.teacher"):
        train(recorded, tmp_path / "run")
    assert not (tmp_path / "run").exists()
