"""PatchConvNet's recipes say what its paper says of training and fine-tuning."""

import dataclasses

import pytest
from recipes.published_for_tests import PATCHCONVNET, TABLE_B3, expects, paper_epochs, starts_from

import plainvision as pv
from plainvision.recipes import describe, get_recipe, patchconvnet, patchconvnet_finetuning
from plainvision.training import Recipe
from plainvision.training.techniques import AttentionPooling


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


@pytest.mark.parametrize("network", ["s60", "b120"])
def test_the_card_tells_what_the_recipes_of_other_data_expect(network):
    note = pv.card(f"patchconvnet_{network}").note
    for task in patchconvnet_finetuning.TRANSFER.values():
        at_224, at_320 = task.top1[network]
        assert f"{task.words} {at_224} and {at_320} %" in note
