"""Attention maps are the pooling's own weights, and asking for them changes nothing."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

import plainvision as pv
from plainvision.explain import attention_kind, attention_maps
from plainvision.layers.attention_pool import AttentionPool, ClassTokenLogits

CLASSES = 5


class Pooled(nn.Module):
    """Patches of 8x8 pixels, attention pooling, and a classifier."""

    def __init__(self, *, per_class: bool = False, heads: int = 1, deployed: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.pool: nn.Module = AttentionPool(8, classes=CLASSES if per_class else None, heads=heads, layer_scale=1.0)
        nn.init.normal_(self.pool.token)
        for layer in (self.pool.q, self.pool.k):
            nn.init.normal_(layer.weight, std=0.4)
            nn.init.normal_(layer.bias, std=0.4)
        if deployed:
            self.pool = self.pool.fuse()
        self.head = ClassTokenLogits(8, CLASSES) if per_class else nn.Linear(8, CLASSES)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return self.head(self.pool(self.patches(x)))


FORMS = [
    {"per_class": per_class, "heads": heads, "deployed": deployed}
    for per_class in (False, True)
    for heads in (1, 2)
    for deployed in (False, True)
]


def hooks(model: nn.Module) -> int:
    return sum(
        len(held)
        for module in model.modules()
        for held in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    )


def small_vit(**options) -> nn.Module:
    options = {"img_size": (32, 48), "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": CLASSES, **options}
    return timm.models.VisionTransformer(patch_size=8, **options)


def small_torchvision_vit() -> nn.Module:
    vit = torchvision.models.VisionTransformer
    return vit(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=CLASSES)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_maps_are_the_shares_of_the_pooling_and_sum_to_one(form, images):
    model = Pooled(**form)
    own = model.pool.attend(model.patches(images))  # (2, T, 8, 12)
    maps = attention_maps(model, images)
    assert maps.shape == (2, 8, 12)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))
    if form["per_class"]:
        assert attention_kind(model) == "per class"
        chosen = attention_maps(model, images, [4, 0, 4])
        assert torch.equal(chosen, own[:, [4, 0, 4]])
        predicted = model(images).argmax(1)
        assert torch.equal(maps, own[torch.arange(2), predicted])
        assert torch.equal(attention_maps(model, images, torch.tensor([2])), own[:, [2]])
    else:
        assert attention_kind(model) == "single"
        assert torch.equal(maps, own[:, 0])


def test_a_single_tokens_map_is_the_softmax_less_its_own_share(images):
    model = Pooled()
    pool = model.pool
    patches = model.patches(images).flatten(2).transpose(1, 2)
    keys = pool.norm1(torch.cat([pool.token.expand(2, 1, -1), patches], dim=1))
    scores = pool.q(pool.norm1(pool.token)) @ pool.k(keys).transpose(1, 2) / 8**0.5
    shares = scores.softmax(-1)[:, 0]
    assert (shares[:, 0] > 1e-5).all()  # ten times what the comparison would overlook
    expected = shares[:, 1:] / shares[:, 1:].sum(1, keepdim=True)
    torch.testing.assert_close(attention_maps(model, images), expected.unflatten(1, (8, 12)))


@pytest.mark.parametrize("per_class", [False, True])
def test_a_network_that_scores_bright_patches_alone_looks_at_the_bright_one(per_class):
    model = Pooled(per_class=per_class)
    with torch.no_grad():
        model.patches.weight.zero_()
        model.patches.weight[0] = 1  # the first channel is how bright a patch is, the others are empty
        model.patches.bias.zero_()
        pool = model.pool
        pool.token.zero_()
        for layer in (pool.q, pool.k):
            layer.weight.zero_()
            layer.bias.zero_()
        pool.q.bias[0] = 20
        pool.k.weight[0, 0] = 1
    images = torch.zeros(3, 3, 40, 64)
    for image, (row, column) in zip(images, [(0, 0), (4, 7), (2, 3)], strict=True):
        image[:, 8 * row + 3, 8 * column + 5] = 9.0
    maps = attention_maps(model, images)
    assert maps.shape == (3, 5, 8)
    assert maps.flatten(1).argmax(1).tolist() == [0, 4 * 8 + 7, 2 * 8 + 3]
    assert (maps.amax((1, 2)) > 0.99).all()


def test_the_predicted_class_comes_from_the_same_pass(images):
    model = Pooled(per_class=True)
    attention_maps(model, images)
    assert model.passes == 1


@pytest.mark.parametrize("per_class", [False, True])
def test_patchconvnet_shows_its_patches(per_class):
    model = pv.create_model("patchconvnet_s20", embed_dim=16, depth=1, num_classes=CLASSES, per_class=per_class)
    maps = pv.attention_maps(model, torch.randn(2, 3, 48, 80), [1, 3] if per_class else None)
    assert maps.shape == ((2, 2, 3, 5) if per_class else (2, 3, 5))
    torch.testing.assert_close(maps.sum((-1, -2)), torch.ones(maps.shape[:-2]))


@pytest.mark.parametrize("per_class", [False, True])
def test_a_network_with_its_pooling_replaced_has_maps(per_class):
    model = pv.surgery.attention_pooling(timm.create_model("test_resnet", num_classes=CLASSES), per_class)
    maps = attention_maps(model, torch.randn(2, 3, 96, 160))
    assert maps.shape == (2, 3, 5)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))
    assert attention_kind(model) == ("per class" if per_class else "single")


# Vision transformers


@pytest.mark.parametrize("tokens", [{}, {"reg_tokens": 3}, {"reg_tokens": 2, "no_embed_class": True}], ids=str)
def test_a_timm_transformers_map_is_its_class_tokens_last_attention(tokens):
    model = small_vit(**tokens).eval()
    images = torch.randn(2, 3, 32, 48)
    maps = attention_maps(model, images)
    last = model.blocks[-1]
    with torch.no_grad():
        x = last.norm1(model.blocks[:-1](model._pos_embed(model.patch_embed(images))))
        query, key, _ = last.attn.qkv(x).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        shares = (query @ key.transpose(2, 3) / 8**0.5).softmax(-1).mean(1)[:, 0, 1 + tokens.get("reg_tokens", 0) :]
    assert shares.shape == (2, 24)
    expected = (shares / shares.sum(1, keepdim=True)).unflatten(1, (4, 6))
    torch.testing.assert_close(maps, expected)
    assert attention_kind(model) == "single"


def test_a_timm_transformer_keeps_its_kernel_and_its_answers():
    model = timm.create_model("test_vit", dynamic_img_size=True).eval()
    images = torch.randn(2, 3, 64, 96)
    kernels = [block.attn.fused_attn for block in model.blocks]
    before = model(images)
    maps = attention_maps(model, images)
    assert maps.shape == (2, 4, 6)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))
    assert [block.attn.fused_attn for block in model.blocks] == kernels
    assert torch.equal(model(images), before)


def test_a_torchvision_transformers_map_is_its_class_tokens_last_attention():
    model = small_torchvision_vit().eval()
    images = torch.randn(2, 3, 32, 32)
    last = model.encoder.layers[-1]
    with torch.no_grad():
        x = torch.cat([model.class_token.expand(2, -1, -1), model.conv_proj(images).flatten(2).transpose(1, 2)], dim=1)
        x = last.ln_1(model.encoder.layers[:-1](x + model.encoder.pos_embedding))
        projected = nn.functional.linear(x, last.self_attention.in_proj_weight, last.self_attention.in_proj_bias)
        query, key, _ = projected.unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        shares = (query @ key.transpose(2, 3) / 8**0.5).softmax(-1).mean(1)[:, 0, 1:]
    expected = (shares / shares.sum(1, keepdim=True)).unflatten(1, (4, 4))
    torch.testing.assert_close(attention_maps(model, images), expected)


def test_a_network_inside_another_is_found():
    inner = small_vit()
    images = torch.randn(1, 3, 32, 48)
    assert torch.equal(attention_maps(nn.Sequential(nn.Identity(), inner), images), attention_maps(inner, images))


# What is left behind


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (Pooled, (64, 96)),
        (lambda: Pooled(per_class=True), (64, 96)),
        (small_vit, (32, 48)),
        (small_torchvision_vit, (32, 32)),
    ],
)
def test_the_network_is_left_as_it_was(build, size):
    model = build().train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    frozen.eval()
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    maps = attention_maps(model, torch.randn(2, 3, *size))
    assert not maps.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert hooks(model) == 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("build", "size"), [(Pooled, (64, 96)), (small_vit, (32, 48)), (small_torchvision_vit, (32, 32))]
)
def test_a_pass_that_fails_leaves_nothing_behind(build, size):
    model = build().train()
    with pytest.raises(RuntimeError):
        attention_maps(model, torch.randn(2, 7, *size))
    assert hooks(model) == 0
    assert all(module.training for module in model.modules())
    assert all(block.attn.fused_attn for block in getattr(model, "blocks", ()))


# What cannot work


def test_a_network_without_maps_is_told_where_to_go(images):
    with pytest.raises(ValueError, match=r"ResNet has no attention maps.*surgery\.attention_pooling.*explain\.gradcam"):
        attention_maps(timm.create_model("test_resnet"), images)
    assert attention_kind(timm.create_model("test_resnet")) is None


@pytest.mark.parametrize(("build", "size"), [(Pooled, (64, 96)), (small_vit, (32, 48))])
def test_a_single_token_has_no_map_of_a_class(build, size):
    with pytest.raises(ValueError, match=r"single class token.*Leave classes out.*per_class=True"):
        attention_maps(build(), torch.randn(1, 3, *size), [0])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, CLASSES], rf"there is no class {CLASSES}: the network has {CLASSES}, from 0 to {CLASSES - 1}"),
        ([-1], "there is no class -1"),
        (3, r"classes=3 are not indices of classes. Give a list of them, for instance \[0, 3\]"),
        ([], "are not indices"),
        ([0.5], "are not indices"),
        (["hat"], "are not indices"),
        ([True, False], "are not indices"),
    ],
)
def test_classes_that_are_none_are_explained(classes, message, images):
    model = Pooled(per_class=True)
    with pytest.raises(ValueError, match=message):
        attention_maps(model, images, classes)
    assert model.passes == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.randn(3, 64, 96), r"images are a tensor \(3, 64, 96\), not a batch.*image\[None\]"),
        (torch.randn(0, 3, 64, 96), "not a batch"),
        ([torch.randn(3, 64, 96)], "images are a list"),
        (torch.zeros(1, 3, 64, 96, dtype=torch.uint8), r"images are torch\.uint8.*normalised"),
    ],
)
def test_images_that_are_no_batch_are_explained(given, message):
    with pytest.raises(ValueError, match=message):
        attention_maps(Pooled(), given)


def test_a_transformer_without_a_class_token_has_no_map():
    model = small_vit(class_token=False, global_pool="avg")
    with pytest.raises(ValueError, match=r"no class token.*Use one with a class token"):
        attention_maps(model, torch.randn(1, 3, 32, 48))


def test_a_transformer_of_other_blocks_has_no_map():
    model = small_vit(block_fn=timm.models.vision_transformer.ParallelScalingBlock)
    with pytest.raises(ValueError, match=r"the last block .* is a ParallelScalingBlock"):
        attention_maps(model, torch.randn(1, 3, 32, 48))


def test_features_have_no_predicted_class(images):
    model = Pooled(per_class=True)
    model.head = nn.Flatten()
    with pytest.raises(ValueError, match=r"Pooled returns a tensor \(2, 40\), not logits \(B, 5\)"):
        attention_maps(model, images)
    assert attention_maps(model, images, [1]).shape == (2, 1, 8, 12)


def test_a_pooling_that_is_not_used_is_named(images):
    model = Pooled()
    model.spare = AttentionPool(8)
    with pytest.raises(ValueError, match="the forward pass of Pooled does not come by its AttentionPool"):
        attention_maps(model, images)


def test_a_network_that_writes_into_its_input_leaves_the_callers_images_alone():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = pv.surgery.attention_pooling(torchvision.models.resnet18(num_classes=3))

        def forward(self, x):
            return self.network(x.sub_(0.5).mul_(4))

    model, images = Writes().eval(), torch.rand(2, 3, 64, 64)
    before = images.clone()
    maps = pv.attention_maps(model, images)
    assert torch.equal(images, before)
    torch.testing.assert_close(maps, pv.attention_maps(model.network, (images - 0.5) * 4))
