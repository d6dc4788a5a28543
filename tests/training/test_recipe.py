import dataclasses
import json
import math
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from plainvision.data import settings as images
from plainvision.search import settings
from plainvision.search.settings import Budget, CellSearch
from plainvision.training import Augment, Data, Machine, Recipe
from plainvision.training import recipe as recipes
from plainvision.training.run_folder import RunFolder
from plainvision.training.techniques import EMA, TECHNIQUES, DeepTraining, RandomOptions, SeriesActivations, SpatialOps

PLAIN = Recipe(
    name="plain", model="vanillanet_5", techniques=(DeepTraining(epochs=2), SpatialOps("max", where=("a", 1)))
)
RANGES = {
    Data: images._DATA,
    Augment: images._AUGMENT,
    Machine: recipes._MACHINE,
    Recipe: recipes.RANGES,
    CellSearch: settings._SEARCH | {"depth": (3, 1000)},  # which its space checks
    Budget: settings._BUDGET,
    **{technique: technique.ranges for technique in TECHNIQUES.values()},
}


@pytest.mark.parametrize("kind", RANGES)
def test_every_number_has_a_range(kind):
    def numbers(hint) -> bool:
        return hint in (int, float) or any(numbers(one) for one in get_args(hint) if one is not Ellipsis)

    hints = {
        key: hint for key, hint in get_type_hints(kind).items() if key in {f.name for f in dataclasses.fields(kind)}
    }
    numeric = {key for key, hint in hints.items() if numbers(hint)}
    assert numeric - {"model_options", "where"} == set(RANGES[kind])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(PLAIN, epochs=0), r"recipe 'plain': epochs=0 must be above zero and at most 1000000"),
        (lambda: replace(PLAIN, epochs=1.5), r"epochs=1\.5 must be a whole number"),
        (lambda: replace(PLAIN, batch_size=True), r"batch_size=True must be a whole number"),
        (lambda: replace(PLAIN, lr="fast"), r"lr='fast' must be a number"),
        (lambda: replace(PLAIN, lr=-0.1), r"lr=-0\.1 must be above zero"),
        (lambda: replace(PLAIN, lr=math.nan), r"lr=nan must be above zero"),
        (lambda: replace(PLAIN, clip_grad=0.0), r"clip_grad=0\.0 must be above zero and finite"),
        (lambda: replace(PLAIN, clip_grad=math.inf), r"clip_grad=inf must be above zero and finite"),
        (lambda: replace(PLAIN, label_smoothing=1.0), r"label_smoothing=1\.0 must not be negative, nor 1 or more"),
        (lambda: replace(PLAIN, momentum=1.0), r"momentum=1\.0 must not be negative, nor 1 or more"),
        (lambda: replace(PLAIN, betas=(0.9, 1.5)), r"betas=\(0\.9, 1\.5\) must not be negative, nor 1 or more"),
        (lambda: replace(PLAIN, weight_decay=math.nan), r"weight_decay=nan must not be negative"),
        (lambda: replace(PLAIN, bce_threshold=math.nan, loss="bce"), r"bce_threshold=nan"),
        (lambda: Data(image_size=7), r"data\.image_size=7 must be at least 8 and at most 4096"),
        (lambda: Data(image_size=100_000), r"data\.image_size=100000 must be at least 8 and at most 4096"),
        (lambda: Data(crop_ratio=math.inf), r"data\.crop_ratio=inf must be at least 0\.1 and at most 1"),
        (lambda: Data(crop_ratio=1e-9), r"data\.crop_ratio=1e-09 must be at least 0\.1"),
        (lambda: Data(mean=(0.5, math.nan, 0.5)), r"data\.mean=.* must be at least -1000"),
        (lambda: Data(std=(0.5, 0.0, 0.5)), r"data\.std=.* must be at least"),
        (lambda: Data(channels=1), r"data\.mean has 3 values and data\.std 3, for data\.channels=1"),
        (lambda: Data(root=""), r"data\.root is empty\. Give the folder of the images"),
        (lambda: Data(root="/"), r"data\.root is /, all of this machine's files.*Give the folder"),
        (lambda: Data(validation_root="/tmp/.."), r"data\.validation_root is /, all of this machine's files"),
        (lambda: Augment(mixup=2.0), r"augment\.mixup=2\.0 must not be negative, nor above 1"),
        (lambda: Augment(flip=-0.5), r"augment\.flip=-0\.5 must not be negative, nor above 1"),
        (lambda: Augment(random_erasing=math.nan), r"augment\.random_erasing=nan"),
        (lambda: Augment(scale=(2.0, 3.0)), r"augment\.scale=\(2\.0, 3\.0\) must be"),
        (lambda: Augment(ratio=(2.0, 1.0)), r"augment\.ratio=\(2\.0, 1\.0\) must be the least and the largest"),
        (lambda: Machine(threads=-1), r"machine\.threads=-1 must be above zero"),
        (lambda: DeepTraining(epochs=-1), r"DeepTraining: epochs=-1 must not be negative"),
        (lambda: EMA(decay=math.nan), r"EMA: decay=nan must not be negative, nor above 1"),
        (lambda: SeriesActivations(n=1000), r"SeriesActivations: n=1000 must not be negative, nor above 32"),
        (lambda: SpatialOps("max", image_size=10**6), r"SpatialOps: image_size=1000000 must be at least 8"),
        (
            lambda: RandomOptions(attribute=None, stride={"A": (1.0, math.nan)}),
            r"RandomOptions: stride=.*nan.* must be above zero",
        ),
    ],
)
def test_a_value_out_of_its_range_is_refused_at_birth(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_recipe_survives_json():
    assert Recipe.from_dict(json.loads(json.dumps(PLAIN.to_dict()))) == PLAIN


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 3, r"recipe\.name is 3, and must be text"),
        ("epochs", True, r"recipe\.epochs is True, and must be a whole number"),
        ("epochs", 2.0, r"recipe\.epochs is 2\.0, and must be a whole number"),
        ("lr", math.nan, r"lr=nan must be above zero"),
        ("data", [], r"recipe\.data is \[\], and must be an object with the fields of Data"),
        ("data", {"root": 3}, r"recipe\.data\.root is 3, and must be text"),
        ("data", {"mean": "0.5"}, r"recipe\.data\.mean is '0\.5', and must be a list of a number"),
        ("augment", {"scale": [0.5]}, r"recipe\.augment\.scale is \[0\.5\], and must be a list"),
        ("machine", {"precision": "int8"}, r"recipe\.machine\.precision is 'int8', and must be 'no' or 'bf16' or"),
        ("betas", [1, "x"], r"recipe\.betas is .*, and must be a list of a number and a number or null"),
        ("surprise", 1, r"recipe has the unknown field 'surprise'.*version of plainvision that wrote it"),
        ("techniques", {}, r"recipe is no object that has techniques"),
        ("model_options", [], r"recipe is no object that has techniques and model_options"),
        ("techniques", [{"technique": ["EMA"]}], r"unknown technique \['EMA'\]; this version knows"),
        ("techniques", ["EMA"], r"unknown technique None"),
        ("techniques", [{"technique": "EMA", "x": 1}], r"EMA has the unknown field 'x'"),
        ("techniques", [{"technique": "DeepTraining"}], r"DeepTraining lacks the field 'epochs'"),
        ("techniques", [{"technique": "SpatialOps", "op": None}], r"SpatialOps\.op is None, and must be text"),
    ],
)
def test_a_recipe_out_of_json_has_the_fields_and_types_of_a_recipe(field, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(PLAIN.to_dict() | {field: value})


@pytest.mark.parametrize("plain", [None, 3, [], {}, "recipe"])
def test_what_is_no_recipe_at_all_is_refused(plain):
    with pytest.raises(ValueError, match="recipe is no object"):
        Recipe.from_dict(plain)


def test_a_run_of_an_earlier_version_goes_on_though_its_technique_lacks_a_field(tmp_path):
    recipe = replace(PLAIN, techniques=(SpatialOps("max", where=("a", 1)),))
    earlier = recipe.to_dict()
    del earlier["techniques"][0]["drop_norm_act"]
    (tmp_path / "recipe.json").write_text(json.dumps(earlier))
    RunFolder(tmp_path, recipe, resume=True)
    other = replace(recipe, techniques=(replace(recipe.techniques[0], drop_norm_act=True),))
    with pytest.raises(ValueError, match=r"differs in techniques\.0\.drop_norm_act \(False there, True given\)"):
        RunFolder(tmp_path, other, resume=True)
