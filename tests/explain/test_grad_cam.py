"""Grad-CAM is what its paper's two equations say, at the right layer, and leaves nothing behind."""

import gc
import sys

import pytest
import timm
import torch
import torchvision
from torch import nn

import plainvision as pv
from plainvision.explain import gradcam, last_spatial_layer
from plainvision.layers.attention_pool import AttentionPool


class Tiny(nn.Module):
    """Two convolutions; the last class sees the image's mean instead of the features."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace))
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(inplace))
        self.drop = nn.Dropout2d(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        features = self.drop(self.second(self.first(x)))
        return torch.cat([self.head(features.mean((2, 3))), x.mean((1, 2, 3))[:, None]], dim=1)


def by_autograd(model: nn.Module, layer: nn.Module, images: torch.Tensor, classes: list[int]) -> torch.Tensor:
    """Return equations 1 and 2 of the paper, image by image."""
    maps = []
    for image, label in zip(images, classes, strict=True):
        kept = []
        handle = layer.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output) or output.clone())
        logit = model.eval()(image[None])[0, label]
        handle.remove()
        features = kept[-1]
        weights = torch.autograd.grad(logit, features)[0].mean((2, 3), keepdim=True)
        maps.append((weights * features).sum(1).clamp(min=0)[0].detach())
    return torch.stack(maps)


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (Tiny, "second"),
        (lambda: Tiny(inplace=True), "second"),
        (lambda: Tiny(inplace=True), "first.1"),  # a ReLU in place follows
        (lambda: timm.create_model("resnet18", num_classes=5), "layer4"),
        (lambda: timm.create_model("resnet18", num_classes=5, zero_init_last=False), "layer3.0.bn1"),
        (lambda: torchvision.models.resnet18(num_classes=5), "layer4.1.relu"),
    ],
)
def test_it_equals_the_equations(build, layer, images):
    model = build()
    expected = by_autograd(model, model.get_submodule(layer), images, [1, 3])
    assert expected.max() > 0
    found = gradcam(model, images, torch.tensor([1, 3]), layer)
    torch.testing.assert_close(found, expected)


def test_classes_are_one_for_all_or_each_images_own_or_several(images):
    model = Tiny()
    every = gradcam(model, images, [0, 1, 2])
    assert every.shape == (2, 3, 8, 12)
    for index in range(3):
        assert torch.equal(gradcam(model, images, index), every[:, index])
    assert torch.equal(gradcam(model, images, torch.tensor([2, 0])), every[[0, 1], [2, 0]])
    assert torch.equal(gradcam(model, images, torch.tensor(1)), every[:, 1])
    assert torch.equal(gradcam(model, images, (1,)), every[:, [1]])


def test_a_layer_is_named_or_given(images):
    model = Tiny()
    assert torch.equal(gradcam(model, images, 0, model.second), gradcam(model, images, 0, "second"))
    assert torch.equal(gradcam(model, images, 0), gradcam(model, images, 0, "second"))
    assert gradcam(model, images, 0, "first").shape == (2, 16, 24)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("test_resnet", "layer4"),
        ("test_convnext", "stages"),  # the output of its last stage
        ("mobilenetv3_small_050", "blocks"),
        ("test_efficientnet", "bn2"),
        ("resnet18", "layer4"),
    ],
)
def test_the_layer_is_the_last_that_still_has_places(name, layer):
    model = timm.create_model(name, num_classes=4)
    assert last_spatial_layer(model, torch.randn(1, 3, 96, 128)) == layer
    if name == "test_convnext":
        images = torch.randn(1, 3, 96, 128)
        assert torch.equal(gradcam(model, images, 2), gradcam(model, images, 2, model.stages[-1]))


def test_the_layer_of_our_networks_in_both_forms(images):
    vanilla = pv.create_model("vanillanet_5", width=1 / 16, num_classes=4)
    pv.set_slope(vanilla, 1)
    column = pv.create_model("patchconvnet_s20", embed_dim=16, depth=2, num_classes=4)
    tokens = pv.create_model("patchconvnet_s20", embed_dim=16, depth=2, num_classes=4, per_class=True)
    for model, layer in ((vanilla, "stages.2"), (column, "blocks.1"), (tokens, "blocks.1")):
        for form in (model, pv.fuse(model, image_size=64)):
            assert last_spatial_layer(form, images) == layer
            maps = gradcam(form, images, [0, 3])
            assert maps.shape[:2] == (2, 2)
            assert (maps >= 0).all()


def test_a_fused_resnet_has_a_layer_too(images):
    model = timm.create_model("test_resnet", num_classes=4).eval()
    fused = pv.fuse(model, image_size=64)
    torch.testing.assert_close(gradcam(fused, images, 1), gradcam(model, images, 1), rtol=1e-3, atol=1e-5)


def test_the_layer_is_on_the_way_to_the_logits(images):
    class Aside(Tiny):
        def __init__(self):
            super().__init__()
            self.aside = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            logits = super().forward(x)
            self.aside(x)
            return logits

    assert last_spatial_layer(Aside(), images) == "second"


def test_a_layer_behind_tokens_of_a_pooling_is_fine():
    model = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), AttentionPool(8, classes=3), nn.LayerNorm(8), nn.Flatten())
    assert last_spatial_layer(model, torch.randn(1, 3, 32, 32)) == "0"


# Zero where there is nothing to say


def test_a_class_that_does_not_depend_on_the_layer_has_a_map_of_zeros(images):
    maps = gradcam(Tiny(), images, [4, 0])
    assert (maps[:, 0] == 0).all()
    assert maps[:, 1].max() > 0


@pytest.mark.parametrize("layer", [None, "second"])
def test_logits_without_a_graph_have_maps_of_zeros(layer, images):
    class Cut(Tiny):
        def forward(self, x):
            return super().forward(x).detach()

    maps = gradcam(Cut(), images, 0, layer)
    assert maps.shape == (2, 8, 12)
    assert (maps == 0).all()


# What is left behind


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_network_is_left_as_it_was(around, images):
    model = Tiny(inplace=True).train()
    model.first.eval()
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.ones(4)
    modes = [module.training for module in model.modules()]
    expected = gradcam(Tiny.eval(model), images, 1)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    given = images.clone()
    with around():
        maps = gradcam(model, images, 1)
    assert torch.equal(maps, expected)
    assert torch.equal(images, given)
    assert not maps.requires_grad
    assert not images.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["head.weight"]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["head.bias"]
    assert torch.equal(model.head.bias.grad, torch.ones(4))
    assert hooks(model) == 0


def test_a_frozen_network_has_the_same_maps(images):
    model = Tiny(inplace=True)
    free = gradcam(model, images, 1)
    assert torch.equal(gradcam(model.requires_grad_(False), images, 1), free)


def test_a_pass_that_fails_leaves_nothing_behind():
    model = Tiny()
    with pytest.raises(RuntimeError):
        gradcam(model, torch.randn(1, 5, 64, 96), 0)
    assert hooks(model) == 0
    assert all(module.training for module in model.modules())


def test_two_hundred_calls_leave_no_tensor_and_no_hook(images):
    model = Tiny()

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    gradcam(model, images, 0)  # what is made once
    before = tensors()
    for number in range(200):
        gradcam(model, images, number % 4)
    assert tensors() <= before
    assert hooks(model) == 0


# What cannot work


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("secnd", r"Tiny has no layer 'secnd'. Did you mean second"),
        ("zzz", r"Tiny has no layer 'zzz'. `model.named_modules\(\)` lists them"),
        ("", "Tiny has no layer ''"),
        ("head", r"the layer 'head' returns \(1, 4\), and Grad-CAM needs \(B, C, H, W\)"),
        (nn.Conv2d(1, 1, 1), "Conv2d is not a layer of this Tiny"),
        ("spare", "the layer 'spare' is not called by itself"),
    ],
)
def test_a_layer_that_cannot_be_is_explained(layer, message, images):
    model = Tiny()
    model.spare = nn.ReLU()
    with pytest.raises(ValueError, match=message):
        gradcam(model, images, 0, layer)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (5, "there is no class 5: the network has 5, from 0 to 4"),
        ([0, -2], "there is no class -2"),
        (torch.tensor([0, 1, 2]), r"a tensor of 3 for 2 images.*give a list, `classes\.tolist\(\)`"),
        (torch.tensor([0.5, 1.0]), "are not indices"),
        ([], "are not indices"),
        ("hat", "are not indices"),
    ],
)
def test_classes_that_are_none_are_explained(classes, message, images):
    with pytest.raises(ValueError, match=message):
        gradcam(Tiny(), images, classes)


def test_networks_of_tokens_are_sent_elsewhere():
    for model in (timm.create_model("test_vit"), timm.create_model("mixer_s32_224")):
        size = model.pretrained_cfg["input_size"][1]
        with pytest.raises(ValueError, match=r"works on a sequence of patches.*attention_maps"):
            gradcam(model, torch.randn(1, 3, size, size), 0)
    vit = timm.create_model("test_vit")
    assert gradcam(vit, torch.randn(1, 3, 160, 160), 0, "patch_embed.proj").shape == (1, 10, 10)  # by name, as told


def test_channels_last_features_are_refused():
    with pytest.raises(ValueError, match=r"features of MambaOut are \(B, H, W, C\)"):
        gradcam(timm.create_model("test_mambaout"), torch.randn(1, 3, 96, 96), 0)


def test_a_network_without_places_is_told_so():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(ValueError, match=r"Sequential has no layer whose output is \(B, C, H, W\)"):
        gradcam(model, torch.randn(1, 3, 2, 2), 0)


def test_features_are_no_logits(images):
    with pytest.raises(ValueError, match=r"returns a tensor \(1, 3, 64, 96\), not logits \(B, K\)"):
        gradcam(nn.Conv2d(3, 3, 1), images, 0)


def test_images_are_checked():
    with pytest.raises(ValueError, match="not a batch"):
        gradcam(Tiny(), torch.randn(3, 64, 96), 0)


def test_without_captum_the_extra_is_named(monkeypatch, images):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r'`captum`, which is not installed. pip install "plainvision\[explain\]"'):
        gradcam(Tiny(), images, 0)


def test_classes_that_were_predicted_in_inference_mode_are_taken(images):
    model = Tiny()
    with torch.inference_mode():
        predicted = model.eval()(images).argmax(1)
    assert torch.equal(gradcam(model, images, predicted), gradcam(model, images, torch.tensor(predicted.tolist())))


def test_a_network_that_writes_into_its_input_is_explained_on_the_images_as_they_are():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
            )

        def forward(self, x):
            return self.network(x.sub_(0.5).mul_(4))

    model, images = Writes().eval(), torch.rand(2, 3, 8, 8)
    before = images.clone()
    maps = gradcam(model, images, [0, 1, 2], "network.0")
    assert torch.equal(images, before)
    torch.testing.assert_close(maps, gradcam(model.network, (images - 0.5) * 4, [0, 1, 2], "0"))
