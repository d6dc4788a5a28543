"""VanillaNet's recipes say what its paper's Tables 1 to 3 and 7 say."""

import dataclasses
from typing import Any

import pytest
from recipes.published_for_tests import TABLE_7, TABLES

from plainvision.recipes import ablations, describe, get_recipe, vanillanet
from plainvision.training import Recipe
from plainvision.training.techniques import EMA, DeepTraining, LinearPairs, SeriesActivations


def technique(of: Recipe, kind: type) -> Any:
    return next((item for item in of.techniques if isinstance(item, kind)), None)


def of_range(values: dict[str, float], depth: int) -> float:
    """The value of the key, such as "5-10", that holds ``depth``."""
    for key, value in values.items():
        first, last = map(int, key.split("-"))
        if first <= depth <= last:
            return value
    raise KeyError(depth)


@pytest.mark.parametrize("depth", range(5, 14))
def test_a_recipe_says_what_table_7_says(depth):
    built = get_recipe(f"vanillanet_{depth}_imagenet")
    row = str(depth)
    assert built.model == f"vanillanet_{depth}"
    assert built.model_options == {"drop_rate": TABLE_7["dropout"]}
    assert built.optimizer == TABLE_7["optimizer"]
    assert built.betas == tuple(TABLE_7["betas"])
    assert built.loss == TABLE_7["loss"]
    assert built.batch_size == TABLE_7["batch_size"]
    assert built.epochs == TABLE_7["epochs"]
    assert built.schedule == TABLE_7["schedule"]
    assert built.warmup_epochs == TABLE_7["warmup_epochs"]
    assert built.label_smoothing == TABLE_7["label_smoothing"]
    assert built.lr == (4.8e-3 if depth == 7 else TABLE_7["lr"][row])  # the figures have the command's
    assert built.weight_decay == TABLE_7["weight_decay"][row]
    assert built.layer_decay == TABLE_7["layer_decay"].get(row)
    magnitude, spread = TABLE_7["randaugment"]
    assert built.augment.policy == f"rand-m{magnitude}-mstd{spread}-inc1"
    assert built.augment.mixup == TABLE_7["mixup"][row]
    assert built.augment.cutmix == TABLE_7["cutmix"]
    assert built.augment.color_jitter == TABLE_7["color_jitter"]
    assert built.data.image_size == 224
    assert built.data.crop_ratio == of_range(TABLE_7["test_crop"], depth)
    printed = 0.999996 if depth <= 10 else of_range(TABLE_7["ema"], depth)  # here too
    assert technique(built, EMA) == EMA(decay=printed, warmup=False)
    assert technique(built, DeepTraining) == DeepTraining(epochs=TABLE_7["decay_epochs"], anneal="linear")


@pytest.mark.parametrize("depth", range(5, 11))
def test_an_official_recipe_differs_from_the_table_where_the_command_does(depth):
    """README and main.py of https://github.com/huawei-noah/VanillaNet."""
    table = get_recipe(f"vanillanet_{depth}_imagenet")
    official = get_recipe(f"vanillanet_{depth}_imagenet_official")
    assert official.lr == TABLE_7["lr"][str(depth)]
    assert technique(official, EMA) == EMA(decay=of_range(TABLE_7["ema"], depth), warmup=False)
    assert official.weight_decay == TABLE_7["weight_decay_official_command"][str(depth)]
    assert official.augment.random_erasing == 0.25
    assert (official.augment.mix_probability, official.augment.switch_probability) == (1.0, 0.5)
    assert (official.warmup_lr, official.min_lr, official.optimizer_eps) == (0.0, 1e-6, 1e-8)
    assert official.machine.precision == "fp16"
    same = dataclasses.replace(
        official,
        name=table.name,
        lr=table.lr,
        weight_decay=table.weight_decay,
        techniques=table.techniques,
        optimizer_eps=table.optimizer_eps,
        augment=dataclasses.replace(official.augment, random_erasing=table.augment.random_erasing),
        machine=table.machine,
    )
    assert same == table


def test_the_expected_results_are_the_published_ones():
    models = TABLES["models"]
    assert {f"vanillanet_{depth}": row.top1 for depth, row in vanillanet.TABLE_7.items()} == {
        name: models[name]["top1"] for name in models if "x1_5" not in name
    }
    assert models["vanillanet_13_x1_5"]["top1"] == vanillanet.VANILLANET_13_X1_5_TOP1
    assert {row["n"]: row["top1"] for row in TABLES["series_ablation_vanillanet_6"]} == ablations.TABLE_1
    assert {tuple(case): top1 for case, top1 in ablations.TABLE_2.items()} == {
        (row["network"], row["deep_training"], row["series_activation"]): row["top1"]
        for row in TABLES["technique_ablation"]
    }
    keys = {None: "none", "before": "before_activation", "after": "after_activation"}
    assert {keys[where]: top1 for where, top1 in ablations.TABLE_3.items()} == TABLES["shortcut_ablation_vanillanet_6"]


def test_a_docstring_tells_the_published_figure():
    figures = {"vanillanet_13_x1_5_imagenet": vanillanet.VANILLANET_13_X1_5_TOP1}
    figures |= {f"vanillanet_{depth}_imagenet": row.top1 for depth, row in vanillanet.TABLE_7.items()}
    figures |= {f"vanillanet_6_series_{n}": top1 for n, top1 in ablations.TABLE_1.items()}
    figures |= {case.name: top1 for case, top1 in ablations.TABLE_2.items()}
    figures |= {f"vanillanet_6_shortcut_{where or 'none'}": top1 for where, top1 in ablations.TABLE_3.items()}
    for name, top1 in figures.items():
        assert f"Expect {top1:.2f} % top-1" in " ".join(describe(name).split())


def ablation(name: str, **options: Any) -> Recipe:
    """VanillaNet-6 by its row of the table, with options of its own and an average that can work."""
    average = get_recipe("vanillanet_6_imagenet_official").techniques
    base = dataclasses.replace(get_recipe("vanillanet_6_imagenet"), techniques=average)
    return dataclasses.replace(base, name=name, model_options={"drop_rate": 0.05, **options})


def test_the_printed_average_would_keep_a_fifth_of_the_initial_weights():
    built = get_recipe("vanillanet_6_imagenet")
    steps = built.epochs * (1_281_167 // built.batch_size)
    assert steps == 375_300
    assert technique(built, EMA).decay ** steps == pytest.approx(0.223, abs=1e-3)
    assert technique(get_recipe("vanillanet_6_imagenet_official"), EMA).decay ** steps < 1e-6


@pytest.mark.parametrize("n", range(5))
def test_table_1_varies_the_series_alone(n):
    built = get_recipe(f"vanillanet_6_series_{n}")
    assert built == ablation(built.name, series=n)


@pytest.mark.parametrize("case", ablations.TABLE_2, ids=lambda case: case.name)
def test_table_2_turns_each_technique_on_and_off(case):
    built = get_recipe(case.name)
    assert built.model == case.network
    assert (technique(built, DeepTraining) is not None) == case.deep_training
    assert technique(built, EMA) is not None
    if case.network == "vanillanet_6":
        assert built.model_options["linear_pairs"] == case.deep_training
        assert built.model_options["series"] == (3 if case.series_activation else 0)
    else:
        assert (technique(built, LinearPairs) is not None) == case.deep_training
        assert (technique(built, SeriesActivations) is not None) == case.series_activation


@pytest.mark.parametrize("where", [None, "before", "after"])
def test_table_3_varies_the_shortcut_alone(where):
    built = get_recipe(f"vanillanet_6_shortcut_{where or 'none'}")
    assert built == ablation(built.name, shortcut=where)
