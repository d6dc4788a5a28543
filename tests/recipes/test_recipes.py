"""Recipes are facts: they say what the paper says, survive JSON, and need no torch to be listed."""

import json
import subprocess
import sys
import warnings

import pytest

from plainvision.recipes import describe, get_recipe, list_recipes, recipe
from plainvision.training import Recipe


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_carries_its_name_and_survives_json(name):
    built = get_recipe(name)
    assert built.name == name
    assert Recipe.from_dict(built.to_dict()) == built
    assert Recipe.from_dict(json.loads(json.dumps(built.to_dict()))) == built


@pytest.mark.parametrize("name", list_recipes())
def test_no_technique_of_a_recipe_complains(name):
    built = get_recipe(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for item in built.techniques:
            item.check(built)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_says_what_it_runs_and_what_to_expect(name):
    words = describe(name)
    assert words.splitlines()[0].endswith(".")
    assert "Expect" in words or "No recorded result yet." in words


def test_two_calls_share_nothing_that_can_change():
    get_recipe("vanillanet_5_imagenet").model_options["width"] = 0.5
    assert "width" not in get_recipe("vanillanet_5_imagenet").model_options


@pytest.mark.parametrize("name", list_recipes())
def test_the_network_of_a_recipe_takes_its_options(name):
    import torch

    from plainvision.models import create_model

    built = get_recipe(name)
    with torch.device("meta"):
        model = create_model(built.model, num_classes=10, **built.model_options)
    assert model.num_classes == 10


@pytest.mark.parametrize("name", [name for name in list_recipes() if get_recipe(name).model_options.get("img_size")])
def test_positions_are_learned_at_the_size_of_the_images(name):
    built = get_recipe(name)
    assert built.model_options["img_size"] == built.data.image_size


def test_an_unknown_name_gets_the_nearest():
    words = r"unknown recipe 'vanilanet_digit'\. Did you mean vanillanet_digits.*`plainvision train --help` lists"
    with pytest.raises(ValueError, match=words):
        get_recipe("vanilanet_digit")


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(ValueError, match=r"unknown recipe '\?'\. `plainvision train --help` lists them\."):
        describe("?")


def test_a_taken_name_is_refused():
    def vanillanet_digits() -> Recipe:
        return Recipe(name="vanillanet_digits", model="vanillanet_5")

    before = get_recipe("vanillanet_digits")
    with pytest.raises(ValueError, match=r"'vanillanet_digits'.*plainvision\.recipes\.small has it.*Rename"):
        recipe(vanillanet_digits)
    assert get_recipe("vanillanet_digits") == before


def test_listing_recipes_does_not_import_torch():
    code = (
        "import sys; from plainvision.recipes import describe, get_recipe, list_recipes\n"
        "for name in list_recipes(): get_recipe(name); describe(name)\n"
        "print([name for name in ('torch', 'timm', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
