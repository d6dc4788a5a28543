"""The papers' tables as sweeps: their rows, their settings, what is published of them."""

from dataclasses import replace

import pytest
import torch
from recipes.published_for_tests import PARAMETER_FREE, PATCHCONVNET

from plainvision.inspection.counting import count_parameters
from plainvision.models.registry import create_model
from plainvision.recipes.sweeps import SWEEPS
from plainvision.training.resumable import dotted_fields


@pytest.mark.parametrize(
    ("name", "rows", "best"),
    [
        ("vanillanet_table_1", 5, {"model_options.series": 4}),
        ("vanillanet_table_2", 12, {"network": "vanillanet_6", "techniques": "both"}),
        ("vanillanet_table_3", 3, {"model_options.shortcut": "none"}),
        ("plain_and_residual", 4, {"layers": 34, "network": "residual"}),
        ("patchconvnet_table_5", 6, {"change": "batch_norm"}),
        ("parameter_free_resnets", 3, {"network": "resnet50_hybrid"}),
        ("patchconvnet_table_b1", 14, {"lr": 3e-3, "weight_decay": 0.01}),
        ("patchconvnet_table_b2", 20, {"model_options.drop_path_rate": 0.15, "lr": 3e-3}),
    ],
)
def test_a_table_has_its_rows_and_its_best_one(name, rows, best):
    points = SWEEPS[name].points()
    assert len(points) == rows
    known = [point for point in points if isinstance(point.published, float)]
    assert max(known, key=lambda point: point.published).values == best


def test_figure_8_varies_stochastic_depth_and_length_of_one_run():
    points = SWEEPS["patchconvnet_figure_8"].points()
    assert [point.values["epochs"] for point in points[:4]] == [33, 67, 100, 133]
    assert {point.recipe.model for point in points} == {"patchconvnet_b120"}
    assert {point.published for point in points} == {None}


@pytest.mark.parametrize("name", SWEEPS)
def test_the_recipes_of_a_table_have_the_values_that_its_rows_tell(name):
    points = SWEEPS[name].points()
    for point in points:
        fields = dotted_fields(point.recipe.to_dict())
        for field, value in point.values.items():
            if field in fields:
                assert fields[field] == (None if value == "none" else value)
    assert len({point.named(0) for point in points}) == len(points)
    # The rows of one network differ in nothing but what is swept and its name.
    if name.startswith("patchconvnet_table_b") or name == "patchconvnet_figure_8":
        swept = {*points[0].values, "epochs", "warmup_epochs", "name"}
        rest = {str({k: v for k, v in dotted_fields(p.recipe.to_dict()).items() if k not in swept}) for p in points}
        assert len(rest) == 1


def test_table_5_changes_one_part_of_the_network_at_a_time():
    points = {point.values["change"]: point for point in SWEEPS["patchconvnet_table_5"].points()}
    published = PATCHCONVNET["architecture_ablation_s60"]
    assert sorted(point.published for point in points.values()) == sorted(published.values())
    base = points.pop("none").recipe
    for change, point in points.items():
        changed = point.recipe.model_options.keys() - base.model_options.keys()
        assert len(changed) == 1, change
        machine = replace(point.recipe.machine, sync_batch_norm=False)  # of a batch norm, between GPUs
        assert replace(point.recipe, name=base.name, model_options=base.model_options, machine=machine) == base


def test_the_resnets_without_parameters_stand_against_the_one_that_they_change():
    plain, *others = SWEEPS["parameter_free_resnets"].points()
    assert [point.published for point in (plain, *others)] == [
        PARAMETER_FREE[name]["top1"] for name in ("resnet50", "resnet50_max", "resnet50_hybrid")
    ]
    with torch.device("meta"):
        network = create_model(plain.recipe.model, **plain.recipe.model_options)
        assert count_parameters(network) == count_parameters(create_model("resnet50"))
    for point in others:
        recipe = replace(point.recipe, name=plain.recipe.name, model=plain.recipe.model)
        assert replace(recipe, model_options=plain.recipe.model_options) == plain.recipe


def test_failed_runs_are_told_as_the_paper_does():
    points = SWEEPS["patchconvnet_table_b1"].points()
    assert [point.published for point in points if isinstance(point.published, str)] == [
        "failed@34",
        "failed@92",
        "failed@105",
    ]
