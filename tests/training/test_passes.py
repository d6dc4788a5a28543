"""`--batch-size auto`: the fewest passes whose steps fit, with a GPU's memory that is played by a limit."""

from dataclasses import replace

import pytest
import torch
from commands.running import plainvision, said
from training.label_sets_for_tests import recipe_of, write_images
from training.recipes_for_tests import EVERYTHING, PLAIN, TINY

from plainvision.commands.options.batch_size import without_auto
from plainvision.training import Machine, passes, train
from plainvision.training.learner import Learner
from plainvision.training.passes import fitting_passes


@pytest.mark.parametrize(
    ("limit", "found", "expected"),
    [
        (48, 1, [48, 48]),
        (47, 2, [48, 24, 24]),
        (13, 4, [48, 24, 12, 12]),
        (2, 24, [48, 24, 12, 6, 3, 2, 2]),
        (3, 16, [48, 24, 12, 6, 3, 3]),
    ],
)
def test_the_fewest_passes_are_found_and_nothing_else_changes(gpu, limit, found, expected):
    tried = gpu(limit)
    recipe = fitting_passes(PLAIN)
    assert recipe == replace(PLAIN, machine=replace(PLAIN.machine, accumulate=found))
    assert tried == expected  # two steps where it fits, one where it does not


def test_passes_divide_the_batch_and_begin_with_those_of_the_recipe(gpu):
    gpu(20)
    assert fitting_passes(replace(PLAIN, batch_size=90)).machine.accumulate == 5  # 1, 2, and not 4
    gpu(100)
    assert fitting_passes(replace(PLAIN, machine=Machine(threads=1, accumulate=3))).machine.accumulate == 3


def test_a_recipe_with_everything_fits_and_the_run_that_follows_is_the_same(gpu, tmp_path):
    gpu(24)
    recipe = fitting_passes(replace(EVERYTHING, epochs=1, warmup_epochs=0, techniques=EVERYTHING.techniques[2:]))
    assert recipe.machine.accumulate == 2
    one = train(recipe, tmp_path / "one")
    fitting_passes(recipe)
    other = train(recipe, tmp_path / "other")
    assert one.last.loss == other.last.loss


def test_a_backbone_that_learns_later_has_to_fit_too(monkeypatch):
    class Thawing(Learner):
        def step(self, batch):
            if self.state.epoch == 1 and self.images_per_pass > 12:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().step(batch)

    monkeypatch.setattr(passes, "Learner", Thawing)
    monkeypatch.setattr(passes, "_has_own_memory", lambda device: True)
    assert fitting_passes(replace(PLAIN, epochs=2)).machine.accumulate == 4


def test_sets_of_labels_are_tried_as_sets(gpu, tmp_path):
    gpu(8)
    assert fitting_passes(recipe_of(write_images(tmp_path, 40))).machine.accumulate == 2


def test_what_never_fits_is_said_with_what_was_tried(gpu):
    gpu(1)
    with pytest.raises(ValueError, match=r"not even 2 images of 32x32 in a pass of test_vit fit into the mem.* cpu"):
        fitting_passes(PLAIN)


def test_another_error_of_a_step_is_not_taken_for_a_lack_of_memory(gpu):
    gpu(1, "an illegal memory access was encountered")
    with pytest.raises(torch.OutOfMemoryError, match="illegal memory access"):
        fitting_passes(PLAIN)


def test_without_a_gpu_the_command_says_why_not(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = plainvision("train", "vanillanet_digits", "--batch-size", "auto", "--out", tmp_path / "run")
    assert said(ended, "batch_size=auto fits a step into the memory of a GPU, and there is none here", "give a number")
    assert not (tmp_path / "run").exists()


def test_the_word_is_taken_out_of_the_others():
    assert without_auto(["a", "--batch-size", "auto", "--out", "b"]) == (["a", "--out", "b"], True)
    assert without_auto(["a", "--batch_size=auto"]) == (["a"], True)
    assert without_auto(["auto", "--out", "auto", "--batch-size", "8"]) == (
        ["auto", "--out", "auto", "--batch-size", "8"],
        False,
    )
    ended = plainvision("train", "vanillanet_digits", "--batch-size", "many", "--out", "run")
    assert not said(ended, "Error parsing --batch-size", "'many'")


def test_the_command_trains_in_the_passes_that_fit(gpu, tmp_path):
    gpu(20)
    words = ("--data.train-per-class", "8", "--data.validation-per-class", "2", "--epochs", "1")
    ended = plainvision("train", "vanillanet_digits", *words, "--batch-size", "auto", "--out", tmp_path / "run")
    assert ended.status == 0, ended.err
    assert "batch_size=auto: a step of 64 images fits in 4 passes of 16 (machine.accumulate)" in ended.out


@pytest.mark.gpu
def test_a_large_batch_fits_a_small_part_of_a_gpu_in_several_passes(monkeypatch, tmp_path):
    monkeypatch.setattr(passes, "_SHARE", 1.5e9 / torch.cuda.get_device_properties(0).total_memory)
    data = replace(TINY.data, image_size=224, train_per_class=26)
    recipe = replace(TINY, model="resnet18", model_options={}, data=data, batch_size=256, epochs=1)
    found = fitting_passes(recipe)
    assert 1 < found.machine.accumulate <= 64
    assert torch.cuda.memory_reserved() < 1e8
    result = train(found, tmp_path)
    assert result.last.images == 20
