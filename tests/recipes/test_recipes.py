"""Recipes are facts: they say what the paper says, survive JSON, and need no torch to be listed."""

import dataclasses
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from plainvision.recipes import (
    ablations,
    describe,
    dynamic,
    get_recipe,
    list_recipes,
    parameter_free,
    patchconvnet,
    patchconvnet_finetuning,
    recipe,
    vanillanet,
)
from plainvision.training import Recipe
from plainvision.training.recipe import Augment
from plainvision.training.techniques import (
    EMA,
    AttentionPooling,
    DeepTraining,
    LinearPairs,
    RandomOptions,
    SeriesActivations,
)

GOLDEN = Path(__file__).parents[1] / "golden"
TABLES: dict[str, Any] = json.loads((GOLDEN / "vanillanet_tables.json").read_text())
TABLE_7 = TABLES["recipe"]
PATCHCONVNET: dict[str, Any] = json.loads((GOLDEN / "patchconvnet_tables.json").read_text())
PARAMETER_FREE: dict[str, Any] = json.loads((GOLDEN / "parameter_free_tables.json").read_text())["models"]
TABLE_B3 = {row["model"]: row for row in PATCHCONVNET["norm_ablation"]}


def technique(of: Recipe, kind: type) -> Any:
    return next((item for item in of.techniques if isinstance(item, kind)), None)


def of_range(values: dict[str, float], depth: int) -> float:
    """The value of the key, such as "5-10", that holds ``depth``."""
    for key, value in values.items():
        first, last = map(int, key.split("-"))
        if first <= depth <= last:
            return value
    raise KeyError(depth)


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
    assert built.lr == TABLE_7["lr"][row]
    assert built.weight_decay == TABLE_7["weight_decay"][row]
    assert built.layer_decay == TABLE_7["layer_decay"].get(row)
    magnitude, spread = TABLE_7["randaugment"]
    assert built.augment.policy == f"rand-m{magnitude}-mstd{spread}-inc1"
    assert built.augment.mixup == TABLE_7["mixup"][row]
    assert built.augment.cutmix == TABLE_7["cutmix"]
    assert built.augment.color_jitter == TABLE_7["color_jitter"]
    assert built.data.image_size == 224
    assert built.data.crop_ratio == of_range(TABLE_7["test_crop"], depth)
    assert technique(built, EMA) == EMA(decay=of_range(TABLE_7["ema"], depth), warmup=False)
    assert technique(built, DeepTraining) == DeepTraining(epochs=TABLE_7["decay_epochs"], anneal="linear")


@pytest.mark.parametrize("depth", range(5, 11))
def test_an_official_recipe_differs_from_the_table_where_the_command_does(depth):
    """README and main.py of https://github.com/huawei-noah/VanillaNet."""
    table = get_recipe(f"vanillanet_{depth}_imagenet")
    official = get_recipe(f"vanillanet_{depth}_imagenet_official")
    assert official.weight_decay == TABLE_7["weight_decay_official_command"][str(depth)]
    assert official.augment.random_erasing == 0.25
    assert (official.augment.mix_probability, official.augment.switch_probability) == (1.0, 0.5)
    assert (official.warmup_lr, official.min_lr, official.optimizer_eps) == (0.0, 1e-6, 1e-8)
    assert official.machine.precision == "fp16"
    same = dataclasses.replace(
        official,
        name=table.name,
        weight_decay=table.weight_decay,
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


@pytest.mark.parametrize("n", range(5))
def test_table_1_varies_the_series_alone(n):
    built = get_recipe(f"vanillanet_6_series_{n}")
    base = get_recipe("vanillanet_6_imagenet")
    assert built == dataclasses.replace(base, name=built.name, model_options={"drop_rate": 0.05, "series": n})


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
    base = get_recipe("vanillanet_6_imagenet")
    assert built == dataclasses.replace(base, name=built.name, model_options={"drop_rate": 0.05, "shortcut": where})


def test_resnet18_trains_as_the_vanillanet_that_it_is_compared_with():
    ours, other = get_recipe("vanillanet_clothing"), get_recipe("resnet18_clothing")
    same = dataclasses.replace(
        other, name=ours.name, model=ours.model, model_options=ours.model_options, techniques=ours.techniques
    )
    assert same == ours


def expects(name: str, top1: float) -> bool:
    return f"Expect {top1:.1f} % top-1" in " ".join(describe(name).split())


def paper_epochs(built: Recipe) -> int:
    """Epochs of as many images as the training set has, which is how the paper counts them."""
    return built.epochs * built.augment.repeats


def starts_from(built: Recipe, name: str) -> bool:
    return name in list_recipes() and built.start_from == f"runs/{name}/last.safetensors"


@pytest.mark.parametrize("network", TABLE_B3)
def test_patchconvnet_trains_as_the_paper_says(network):
    built, paper = get_recipe(f"patchconvnet_{network}_imagenet"), PATCHCONVNET["recipe_imagenet1k"]
    assert built.model == f"patchconvnet_{network}"
    assert built.model_options == {"drop_path_rate": TABLE_B3[network]["drop_path"]}
    assert built.weight_decay == paper["weight_decay"][network[0]]
    assert built.optimizer == paper["optimizer"]
    assert (built.schedule, paper["schedule"]) == ("cosine", "half cosine")
    assert paper_epochs(built) == pytest.approx(paper["epochs"], rel=3e-3)
    assert built.batch_size == paper["batch_size"]
    assert built.lr == paper["lr"]
    assert (built.augment.mixup, built.augment.cutmix) == (paper["mixup"], paper["cutmix"])
    assert built.augment.policy == "rand-m7-mstd0.5-inc1"
    assert built.augment.repeats == 3
    assert built.label_smoothing == 0.1
    assert (built.clip_grad, built.augment.random_erasing, built.techniques) == (None, 0.0, ())
    assert built.seed == paper["seed"]
    assert expects(built.name, TABLE_B3[network]["layernorm"])


def test_one_recipe_trains_every_patchconvnet():
    runs = [get_recipe(f"patchconvnet_{network}_imagenet") for network in TABLE_B3]
    own = {"name": "", "model": "", "model_options": {}, "weight_decay": 0.0}
    assert len({str(dataclasses.replace(run, **own)) for run in runs}) == 1


@pytest.mark.parametrize("network", TABLE_B3)
def test_table_b3_varies_the_norm_alone(network):
    built, base = get_recipe(f"patchconvnet_{network}_batch_norm"), get_recipe(f"patchconvnet_{network}_imagenet")
    same = dataclasses.replace(built, name=base.name, model_options=base.model_options, machine=base.machine)
    assert same == base
    assert built.model_options == {**base.model_options, "norm": "batch"}
    assert built.machine.sync_batch_norm
    assert expects(built.name, TABLE_B3[network]["batchnorm"])


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("average_pooling", {"pooling": "average"}, "average_pooling"),
        ("linear_stem", {"stem": "linear"}, "linear_patch_projection"),
        ("multi_head", {"heads": 8}, "multi_head_attention"),
        ("per_class", {"per_class": True}, "one_class_token_per_class"),
    ],
)
def test_table_5_varies_one_part_alone(name, options, key):
    built, base = get_recipe(f"patchconvnet_s60_{name}"), get_recipe("patchconvnet_s60_imagenet")
    changed = {"name": built.name, "model_options": {**base.model_options, **options}}
    assert built == dataclasses.replace(base, **changed)
    assert expects(built.name, PATCHCONVNET["architecture_ablation_s60"][key])


def test_the_batch_norm_of_table_5_is_that_of_table_b3():
    assert PATCHCONVNET["architecture_ablation_s60"]["batchnorm"] == patchconvnet.TABLE_B3["s60"].top1_batch_norm
    assert PATCHCONVNET["architecture_ablation_s60"]["none"] == patchconvnet.TABLE_B3["s60"].top1


@pytest.mark.parametrize("network", patchconvnet_finetuning.TABLE_2)
def test_imagenet21k_is_learned_as_the_paper_says(network):
    built, paper = get_recipe(f"patchconvnet_{network}_imagenet21k"), PATCHCONVNET["recipe_imagenet21k"]
    large = get_recipe(f"patchconvnet_{network}_imagenet21k_large_batch")
    assert (built.epochs, built.batch_size, built.lr) == (paper["epochs"], paper["batch_size"], paper["lr"])
    assert (built.weight_decay, built.augment.repeats) == (paper["weight_decay"], 1)
    assert built.optimizer == "lamb"
    assert (large.batch_size, large.lr) == (paper["batch_size_large"], paper["lr_large"])
    assert dataclasses.replace(large, name=built.name, batch_size=built.batch_size, lr=built.lr) == built
    if network in TABLE_B3:
        assert built.model_options == {"drop_path_rate": TABLE_B3[network]["drop_path"]}


@pytest.mark.parametrize("network", patchconvnet_finetuning.TABLE_2)
def test_from_imagenet21k_to_1k_a_new_classifier_is_learned(network):
    built, paper = get_recipe(f"patchconvnet_{network}_21k_to_1k"), PATCHCONVNET["recipe_21k_to_1k"]
    before = get_recipe(f"patchconvnet_{network}_imagenet21k")
    assert starts_from(built, before.name)
    assert built.new_classifier
    assert (built.epochs, built.batch_size, built.lr) == (paper["epochs"], paper["batch_size"], paper["lr"])
    assert (built.schedule, paper["schedule"]) == ("cosine", "half cosine")
    assert lowered(built, before)
    top1 = {row["size"]: row["top1"] for row in PATCHCONVNET["imagenet21k"] if row["model"] == network}
    assert patchconvnet_finetuning.TABLE_2[network] == top1
    assert expects(built.name, top1[built.data.image_size])
    assert all(f"{top1[size]:.1f} % at {size} pixels" in describe(built.name) for size in (224, 288))


def lowered(built: Recipe, before: Recipe) -> bool:
    rates = [run.model_options["drop_path_rate"] for run in (built, before)]
    return rates[0] == pytest.approx(max(0, rates[1] - 0.1))


@pytest.mark.parametrize("network", TABLE_B3)
def test_a_higher_resolution_takes_ten_epochs_at_a_low_rate(network):
    built = get_recipe(f"patchconvnet_{network}_higher_resolution")
    before = get_recipe(f"patchconvnet_{network}_imagenet")
    assert starts_from(built, before.name)
    assert not built.new_classifier
    assert {key: getattr(built, key) for key in PATCHCONVNET["recipe_resolution"]} == PATCHCONVNET["recipe_resolution"]
    assert built.data.image_size == 384
    assert lowered(built, before)
    if network in PATCHCONVNET["imagenet1k_at_384"]:
        assert expects(built.name, PATCHCONVNET["imagenet1k_at_384"][network])


def test_512_pixels_follow_384_with_the_settings_of_a_higher_resolution():
    built, before = get_recipe("patchconvnet_s60_21k_512"), get_recipe("patchconvnet_s60_21k_to_1k")
    assert starts_from(built, before.name)
    assert not built.new_classifier
    assert built.data.image_size == 512
    assert built.model_options == before.model_options
    assert {key: getattr(built, key) for key in PATCHCONVNET["recipe_resolution"]} == PATCHCONVNET["recipe_resolution"]
    assert expects(built.name, patchconvnet_finetuning.TABLE_2["s60"][512])


def test_a_token_per_class_follows_a_single_one_with_the_settings_of_a_higher_resolution():
    built, other = get_recipe("patchconvnet_s60_multi_finetune"), get_recipe("patchconvnet_s60_higher_resolution")
    assert built == dataclasses.replace(
        other,
        name=built.name,
        model="patchconvnet_s60_multi",
        data=dataclasses.replace(other.data, image_size=224),
    )
    assert expects(built.name, PATCHCONVNET["multiclass_s60"]["top1_finetuned"])


@pytest.mark.parametrize("network", ["s60", "b120"])
@pytest.mark.parametrize("task", PATCHCONVNET["transfer"])
def test_other_data_is_learned_with_a_new_classifier(network, task):
    """The first author's answers: https://github.com/facebookresearch/deit/issues/45 and /105."""
    built = get_recipe(f"patchconvnet_{network}_to_{task}")
    assert starts_from(built, f"patchconvnet_{network}_imagenet")
    assert built.new_classifier
    assert (built.batch_size, built.augment.policy, built.augment.repeats) == (768, "rand-m9-mstd0.5-inc1", 1)
    settings = (built.optimizer, built.lr, built.epochs, built.weight_decay)
    shares = (built.augment.random_erasing, built.model_options["drop_path_rate"])
    if task.startswith("inat"):
        assert settings == ("adamw", 7.5e-5, 360, 0.05)
        assert shares == (0.1, 0.1)
    else:
        assert settings == ("sgd", 0.01, 1000, 1e-4)
        assert shares == (0.0, 0.0)
    assert expects(built.name, PATCHCONVNET["transfer" if network == "s60" else "transfer_b120"][task])


def test_resnet50_with_attention_pooling_differs_by_the_pooling_alone():
    """Procedure A2 of https://arxiv.org/abs/2110.00476."""
    attention, average = get_recipe("resnet50_attention_pooling"), get_recipe("resnet50_average_pooling")
    assert attention == dataclasses.replace(average, name=attention.name, techniques=(AttentionPooling(),))
    assert (average.optimizer, average.batch_size, average.lr, average.weight_decay) == ("lamb", 2048, 5e-3, 0.02)
    assert (paper_epochs(average), average.loss, average.label_smoothing) == (300, "bce", 0.0)
    assert (average.augment.mixup, average.augment.cutmix, average.data.crop_ratio) == (0.1, 1.0, 0.95)
    paper = PATCHCONVNET["resnet50_attention_pooling"]
    assert expects(attention.name, paper["top1"])
    assert expects(average.name, paper["top1"] - paper["gain"])


def test_attention_and_average_pooling_meet_on_clothing_with_nothing_else_changed():
    attention, average = get_recipe("patchconvnet_clothing"), get_recipe("patchconvnet_clothing_average")
    options = {**attention.model_options, "pooling": "average"}
    assert average == dataclasses.replace(attention, name=average.name, model_options=options)


@pytest.mark.parametrize("network", ["resnet50_max", "resnet50_hybrid"])
def test_a_resnet_with_parameter_free_layers_trains_by_the_published_command(network):
    """README of https://github.com/naver-ai/PfLayer: 4 processes of 256 images."""
    built, paper = get_recipe(f"{network}_imagenet"), PARAMETER_FREE[network]
    assert (built.model, built.model_options) == (network, {})
    assert (built.optimizer, built.lr, built.weight_decay, built.momentum) == ("sgd", 0.2, 1e-4, 0.9)
    assert (built.batch_size, built.epochs, built.warmup_epochs) == (4 * 256, 90, 3)
    assert (built.schedule, built.decay_epochs, built.label_smoothing) == ("step", 30, 0.0)
    assert built.machine.precision == "fp16"
    assert expects(built.name, paper["top1"])
    longer = get_recipe(f"{network}_imagenet_long")
    own = {"name": built.name, "epochs": built.epochs, "decay_epochs": built.decay_epochs}
    assert dataclasses.replace(longer, **own) == built
    assert longer.epochs > built.epochs
    assert longer.decay_epochs * built.epochs == built.decay_epochs * longer.epochs
    assert expects(longer.name, paper["top1_long"])


@pytest.mark.parametrize("network", ["vit_s_max", "pit_s_max"])
def test_a_transformer_with_parameter_free_layers_trains_as_deit(network):
    """The defaults of main.py of https://github.com/facebookresearch/deit, with 4 processes of 256 images."""
    built = get_recipe(f"{network}_deit")
    assert (built.model, built.model_options) == (network, {"drop_path_rate": 0.1})
    assert (built.optimizer, built.optimizer_eps, built.weight_decay, built.clip_grad) == ("adamw", 1e-8, 0.05, None)
    assert built.batch_size == 4 * 256
    assert built.lr == pytest.approx(5e-4 * built.batch_size / 512)
    assert (built.schedule, built.warmup_lr, built.min_lr) == ("cosine", 1e-6, 1e-5)
    assert paper_epochs(built) == 300
    augment = built.augment
    assert (augment.policy, augment.mixup, augment.cutmix) == ("rand-m9-mstd0.5-inc1", 0.8, 1.0)
    assert (augment.mix_probability, augment.switch_probability, augment.repeats) == (1.0, 0.5, 3)
    assert (augment.random_erasing, built.label_smoothing, built.data.crop_ratio) == (0.25, 0.1, 0.875)
    assert expects(built.name, PARAMETER_FREE[network]["top1_deit"])


@pytest.mark.parametrize("network", ["vit_s_max", "pit_s_max"])
def test_the_plainer_settings_leave_out_what_deit_adds(network):
    vanilla, cutmix, deit = (get_recipe(f"{network}_{name}") for name in ("vanilla", "cutmix", "deit"))
    assert vanilla.augment == Augment()
    assert (vanilla.model_options, vanilla.label_smoothing, vanilla.epochs) == ({}, 0.0, paper_epochs(deit))
    assert vanilla.warmup_epochs == 5
    changed = ("name", "model_options", "augment", "epochs", "warmup_epochs", "label_smoothing")
    assert dataclasses.replace(vanilla, **{name: getattr(deit, name) for name in changed}) == deit
    assert cutmix == dataclasses.replace(vanilla, name=cutmix.name, augment=Augment(cutmix=1.0))
    for built, key in ((vanilla, "top1_vanilla"), (cutmix, "top1_cutmix")):
        assert expects(built.name, PARAMETER_FREE[network][key])


def test_networks_with_parameter_free_layers_share_their_recipes():
    for build in (parameter_free.resnet, parameter_free.resnet_long):
        first, *others = (dataclasses.replace(build(name), name="", model="") for name in parameter_free.RESNETS)
        assert all(other == first for other in others)
    for build in (parameter_free.vanilla, parameter_free.cutmix, parameter_free.deit):
        first, *others = (dataclasses.replace(build(name), name="", model="") for name in parameter_free.TRANSFORMERS)
        assert all(other == first for other in others)


def test_pooling_and_convolution_meet_on_clothing_with_nothing_else_changed():
    pooling, hybrid, convolution = (get_recipe(f"resnet50_{kind}_clothing") for kind in ("max", "hybrid", "conv"))
    assert hybrid == dataclasses.replace(pooling, name=hybrid.name, model="resnet50_hybrid")
    options = {**pooling.model_options, "pooled": "none"}
    assert convolution == dataclasses.replace(pooling, name=convolution.name, model_options=options)


@pytest.mark.parametrize("attribute", dynamic.ATTRIBUTES)
def test_random_option_fine_tuning_runs_as_the_paper_says(attribute):
    """arXiv:2103.09891, section 3.4 and the appendix."""
    built = get_recipe(f"resnet50_rof_{attribute}")
    assert built.model == "resnet50"
    assert (built.epochs, built.schedule, built.decay_epochs, built.warmup_epochs) == (15, "step", 10, 0)
    assert (built.optimizer, built.lr, built.momentum, built.weight_decay) == ("momentum", 1e-3, 0.9, 1e-4)
    assert built.techniques == (RandomOptions(attribute),)
    assert (built.augment, built.label_smoothing) == (Augment(), 0.0)


@pytest.mark.parametrize("attribute", dynamic.ATTRIBUTES)
def test_resnet20_is_fine_tuned_by_the_schedule_of_resnet50(attribute):
    built, other = get_recipe(f"resnet20_cifar_rof_{attribute}"), get_recipe(f"resnet50_rof_{attribute}")
    own = ("name", "model", "data", "augment", "batch_size", "techniques")
    assert dataclasses.replace(built, **{name: getattr(other, name) for name in own}) == other
    strides = RandomOptions(attribute=None, stride=dynamic.CIFAR_STRIDES)
    assert built.techniques == ((strides,) if attribute == "stride" else other.techniques)


@pytest.mark.parametrize(
    ("name", "permutations"),
    [
        ("resnet50_rof_stride", 361),
        ("resnet50_rof_dilation", 625),
        ("resnet50_rof_size", 625),
        ("resnet20_cifar_rof_stride", 80),
        ("resnet20_cifar_rof_dilation", 625),
        ("resnet20_cifar_rof_size", 625),
    ],
)
def test_a_random_step_has_as_many_permutations_as_the_paper(name, permutations):
    """Section 4.2 counts those of ResNet-50; of ResNet-20's strides all can be computed."""
    from plainvision.training.state import State
    from plainvision.training.weights_file import build_network

    built = get_recipe(name)
    state = State(build_network(built, 10, 0))
    built.techniques[0].start(state)
    assert len(state.notes[RandomOptions]) == permutations


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
