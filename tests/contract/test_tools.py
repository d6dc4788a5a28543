"""What tools do with a network: trace it, export it, save it to a hub and rebuild it; a family each."""

import subprocess
import sys

import pytest
import timm
import torch
from networks_for_tests import trained
from timm.models import save_for_hf
from torch.export import Dim
from torch.testing import assert_close
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

import plainvision as pv

NAMES = {
    "vanillanet_6": {"width": 1 / 64},
    "vanillanet_13_x1_5_ada_pool": {"width": 1 / 128},
    "alexnet": {"width": 1 / 16},
    "patchconvnet_s60": {"embed_dim": 16, "depth": 3},
    "patchconvnet_s60_multi": {"embed_dim": 16, "depth": 3},
    "resnet20_cifar": {"width": 1 / 2, "depths": (1, 2, 1)},
    "resnet50_max": {"width": 1 / 8, "depths": (1, 2, 1, 1)},
    "resnet50_hybrid": {"width": 1 / 8, "depths": (1, 2, 1, 1)},
    "vit_s_max": {"width": 1 / 6, "depth": 3},
    "pit_s_max": {"width": 1 / 3, "depths": (1, 2, 1)},
}
FUSABLE = [name for name in NAMES if not name.startswith(("alexnet", "vit_", "pit_"))]
PYRAMIDS = ["vanillanet_6", "vanillanet_13_x1_5_ada_pool", "alexnet", "resnet50_max", "resnet50_hybrid", "pit_s_max"]


def build(name, **options):
    return trained(pv.create_model(name, **{**NAMES[name], "num_classes": 5, **options}))


def close(found, expected):
    """Compare beside the largest value: what is near zero is a difference of large ones."""
    assert_close(found, expected, rtol=1e-4, atol=1e-5 * max(1.0, expected.abs().max().item()))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_a_symbolic_trace_computes_the_same_at_any_batch_and_size(name):
    model = build(name)
    traced = torch.fx.symbolic_trace(model)
    for shape in ((1, 3, 64, 64), (3, 3, 96, 64)):
        images = torch.randn(shape)
        close(traced(images), model(images))


def test_torchvision_extracts_features_from_its_graph(name, images):
    model = build(name)
    last = get_graph_node_names(model)[1][-1]
    close(create_feature_extractor(model, [last])(images)[last], model(images))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace.* is deprecated")
def test_a_jit_trace_computes_the_same_at_another_batch(name, images):
    model = build(name)
    traced = torch.jit.trace(model, images)
    more = torch.randn(3, *images.shape[1:])
    close(traced(more), model(more))


def test_an_exported_program_takes_any_batch(name, images):
    model = build(name)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: Dim("batch", max=64)},)).module()
    for count in (1, 3):
        more = torch.randn(count, *images.shape[1:])
        close(program(more), model(more))


@pytest.mark.parametrize("name", ["vit_s_max", "pit_s_max", "patchconvnet_s60", "vanillanet_6", "resnet50_max"])
def test_an_exported_program_takes_any_image_size(name):
    model = build(name)
    sides = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}
    program = torch.export.export(model, (torch.randn(2, 3, 128, 192),), dynamic_shapes=(sides,)).module()
    for shape in ((1, 3, 128, 192), (2, 3, 160, 96)):
        images = torch.randn(shape)
        close(program(images), model(images))


def test_it_is_built_on_a_device_and_in_a_type(name):
    model = build_plain(name, device="meta", dtype=torch.bfloat16)
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.bfloat16}


def build_plain(name, **options):
    return timm.create_model(name, **{**NAMES[name], **options})


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_a_new_classifier_keeps_the_pooling_and_a_hub_rebuilds_it(name, pool, images, tmp_path):
    if name.startswith(("alexnet", "patchconvnet")) and (pool == "max" or "multi" in name):
        pytest.skip("it pools in its own way")
    model = build(name)
    model.reset_classifier(4, pool)
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    model.reset_classifier(3)
    assert_close(model.forward_head(model.forward_features(images), pre_logits=True), pooled, rtol=0, atol=0)
    save_for_hf(model, tmp_path, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, **NAMES[name]).eval()
    assert_close(again(images), model(images), rtol=0, atol=0)


def test_frozen_weights_stay_frozen_in_a_new_head(name):
    model = build(name).requires_grad_(False)
    model.reset_classifier(0)
    model.reset_classifier(0, "")
    assert not [key for key, parameter in model.named_parameters() if parameter.requires_grad]


def test_a_head_after_pruning_has_the_width_of_the_last_feature(name, images):
    for index in range(len(build(name).feature_info)):
        model = build(name)
        expected = model.forward_intermediates(images, indices=[index], intermediates_only=True)[0]
        model.prune_intermediate_layers([index], prune_norm=True)
        if index + 1 < len(model.feature_info):
            assert_close(model.forward_features(images), expected, rtol=0, atol=0)
        assert model.num_features == model.head_hidden_size == model.feature_info[index]["num_chs"]
        if not name.startswith("patchconvnet"):  # whose tokens have one width
            model.reset_classifier(7, "avg")
            assert model(images).shape == (2, 7)


def test_pruning_behind_the_last_feature_keeps_the_answer(name, images):
    model = build(name)
    expected = model(images)
    model.prune_intermediate_layers([len(model.feature_info) - 1], prune_head=False)
    assert_close(model(images), expected, rtol=0, atol=0)


def test_pruning_leaves_no_weight_that_learns_nothing(name, images):
    count = len(build(name).feature_info)
    for indices, norm in (([0], True), ([count - 1], True), (list(range(count)), False)):
        model = build(name).train()
        take = model.prune_intermediate_layers(indices, prune_norm=not norm)
        features = model.forward_intermediates(images, indices=take, norm=norm, intermediates_only=True)
        sum(x.sum() for x in features).backward()
        assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


def test_features_only_can_recompute_in_the_backward_pass(name, images):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build_plain(name, features_only=True).train()
        model.set_grad_checkpointing(recompute)
        sum(x.square().mean() for x in model(images)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("name", FUSABLE)
def test_the_deployed_form_can_be_built(name, images):
    model = build(name)
    pv.set_slope(model, 1)
    fused = pv.fuse(model, images=2)
    with torch.device("meta"):
        assert pv.create_model(name, **NAMES[name], num_classes=5, deployed=True).state_dict().keys() == (
            fused.state_dict().keys()
        )
    again = pv.create_model(name, **NAMES[name], num_classes=5, deployed=True).eval()
    pv.load_checkpoint(again, fused.state_dict())
    assert_close(again(images), fused(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", FUSABLE)
def test_a_hub_rebuilds_the_deployed_form(name, images, tmp_path):
    model = timm.create_model(name, **NAMES[name], num_classes=5)
    if not hasattr(model, "_model_args"):
        pytest.skip("this timm records no arguments in a hub")
    model = trained(model)
    pv.set_slope(model, 1)
    fused = pv.fuse(model, images=2)
    save_for_hf(fused, tmp_path, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert_close(again(images), fused(images), rtol=0, atol=0)
    if "multi" not in name:  # whose classes are folded in
        other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=3)  # with a new classifier
        assert other(images).shape == (2, 3)
    save_for_hf(model, tmp_path, safe_serialization=True)  # which was not changed
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", FUSABLE)
def test_timm_finds_the_first_and_the_last_layer_of_both_forms(name):
    for deployed in (False, True):
        model = build_plain(name, deployed=deployed)
        keys, config = model.state_dict().keys(), model.pretrained_cfg
        classifier = config["classifier"]
        for layer in (config["first_conv"], *([classifier] if isinstance(classifier, str) else classifier)):
            assert f"{layer}.weight" in keys


# What timm's scripts do with their options, its train.py with the first one.
SCRIPT = """
import argparse, ast, importlib, timm
parser = argparse.ArgumentParser()
parser.add_argument("--device-modules", nargs="+", default=[])
parser.add_argument("--model")
parser.add_argument("--model-kwargs", nargs="*", default=[])
if __name__ == "__main__":
    given = parser.parse_args()
    for module in given.device_modules:
        importlib.import_module(module)
    options = {key: ast.literal_eval(value) for key, value in (word.split("=") for word in given.model_kwargs)}
    print(sorted({float(v) for k, v in timm.create_model(given.model, **options).state_dict().items() if "slope" in k}))
"""
WRAPPER = "import plainvision.models, runpy; runpy.run_path('script.py', run_name='__main__')"


@pytest.mark.parametrize(
    ("words", "pairs", "slopes"),
    [(("script.py", "--device-modules", "plainvision.models"), True, "[0.0]"), (("-c", WRAPPER), False, "[]")],
    ids=["by an option", "by a line around it"],
)
def test_timms_scripts_find_our_networks(words, pairs, slopes, tmp_path):
    """VanillaNet's slope is then 0 for the whole training, unless there are no pairs."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, *words, "--model", "vanillanet_5", "--model-kwargs", "width=0.02"]
    ended = subprocess.run(
        [*command, f"linear_pairs={pairs}"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert ended.stdout.strip() == slopes


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", PYRAMIDS)
def test_dilation_keeps_the_output_stride_and_what_the_grid_sees(name, stride):
    coarse = build(name)
    fine = pv.load_checkpoint(build(name, output_stride=stride), coarse.state_dict())
    images = torch.randn(1, 3, 192, 192)
    features = fine.forward_intermediates(images, intermediates_only=True)
    assert max(info["reduction"] for info in fine.feature_info) <= stride
    for x, info in zip(features, fine.feature_info, strict=True):
        # What no window covers at the border is lost, twice in AlexNet and at every dilation.
        assert abs(x.shape[-1] - 192 / info["reduction"]) <= (5 if name == "alexnet" else 1)
    if name in (
        "vanillanet_6",
        "alexnet",
    ):  # away from the borders, every second place has the value of the coarse grid
        step = 32 // stride
        whole, dilated = coarse.forward_features(images), fine.forward_features(images)[..., ::step, ::step]
        assert_close(dilated[..., 2:3, 2:3], whole[..., 2:3, 2:3], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("architecture", ["Unet", "FPN", "DeepLabV3", "DeepLabV3Plus"])
@pytest.mark.parametrize("name", ["vanillanet_6", "resnet50_max"])
def test_segmentation_models_take_it_as_an_encoder(name, architecture):
    smp = pytest.importorskip("segmentation_models_pytorch", reason='pip install "plainvision[tasks]"')
    model = smp.create_model(architecture, f"tu-{name}", encoder_weights=None, classes=3, **NAMES[name]).eval()
    stride = {"DeepLabV3": 8, "DeepLabV3Plus": 16}.get(architecture, 32)
    with torch.no_grad():
        assert model.encoder(torch.randn(1, 3, 64, 128))[-1].shape[2:] == (64 // stride, 128 // stride)
        assert model(torch.randn(1, 3, 64, 128)).shape == (1, 3, 64, 128)


def test_an_output_stride_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"output_stride=12: features can be made 8, 16 or 32 times smaller"):
        build_plain("vanillanet_6", output_stride=12)
