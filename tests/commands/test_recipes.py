"""`plainvision recipes` and what `train` says of its recipe."""

import shlex
from dataclasses import replace

import pytest
from commands.running import plainvision

from plainvision.recipes import get_recipe, list_recipes
from plainvision.training.recipe import Recipe


def test_every_recipe_has_a_line_and_those_for_small_data_come_first():
    ended = plainvision("recipes")
    assert ended.status == 0
    lines = [line.split()[0] for line in ended.out.splitlines() if line.split() and line.split()[0] in list_recipes()]
    assert sorted(lines) == sorted(list_recipes())
    assert lines.index("vanillanet_clothing") < lines.index("vanillanet_6_imagenet")


def test_a_word_chooses_by_name_network_and_description():
    out = plainvision("recipes", "PHOTOGRAPHS").out
    assert "vanillanet_clothing" in out
    assert "imagenet" not in out


def test_a_word_that_no_recipe_has_is_an_error():
    ended = plainvision("recipes", "zebra")
    assert ended.status == 2
    assert "no recipe has the word 'zebra'" in ended.err
    assert "`plainvision recipes` lists all of them." in ended.err


def test_a_recipe_in_brief_has_what_differs_from_the_defaults():
    plain = Recipe(name="mine", model="resnet18")
    assert plain.brief() == "recipe mine: resnet18"
    brief = replace(plain, epochs=7, data=replace(plain.data, root="photos", image_size=96)).brief()
    assert brief == "recipe mine: resnet18, data.root='photos', data.image_size=96, epochs=7"


@pytest.mark.parametrize("name", ["vanillanet_clothing", "patchconvnet_s60_imagenet", "resnet50_rof_stride"])
def test_a_recipe_in_brief_takes_a_few_lines_and_names_its_techniques(name):
    recipe = get_recipe(name)
    lines = recipe.brief().splitlines()
    assert len(lines) <= 8
    assert all(len(line) <= 100 for line in lines)
    assert all(type(one).__name__ in recipe.brief() for one in recipe.techniques)


def test_training_prints_the_brief_and_on_request_every_field(tmp_path):
    words = shlex.split("train vanillanet_digits --epochs 1 --warmup-epochs 0 --techniques.0.epochs 0 --data.workers 0")
    brief = plainvision(*words, "--out", str(tmp_path / "a")).out
    assert "recipe vanillanet_digits: vanillanet_5" in brief
    whole = plainvision(*words, "--show-recipe", "--out", str(tmp_path / "b")).out
    assert "checkpoint_steps=None" in whole
    assert "checkpoint_steps=None" not in brief
