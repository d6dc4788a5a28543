"""Networks with parameter-free layers, narrow and for small images, on one GPU: CIFAR-10, photographs of clothing.

Paper    Han et al. 2022, https://arxiv.org/abs/2202.02777; its networks with other `width`, `depth` and `patch_size`
Run      plainvision train resnet50_hybrid_cifar10 --out runs/cifar10
         plainvision train resnet50_max_clothing --out runs/clothing_max
         plainvision train resnet50_conv_clothing --out runs/clothing_conv
Cost     not measured yet
Expect   no recorded result yet

No settings here are published ones. CIFAR-10 is enlarged, so that there are neighbours left to pool where the networks
are deep. The archives are looked for in the working folder; --data.root and --data.validation_root name another place.
"""

from dataclasses import replace

from plainvision.recipes.registry import recipe
from plainvision.training.recipe import Augment, Data, Recipe


@recipe
def resnet50_hybrid_cifar10() -> Recipe:
    """ResNet-50-hybrid, half as wide, on CIFAR-10 at 64 pixels. No recorded result yet."""
    return Recipe(
        name="resnet50_hybrid_cifar10",
        model="resnet50_hybrid",
        model_options={"width": 1 / 2},
        data=_cifar10(64),
        augment=Augment(scale=(0.5, 1.0), policy="rand-m5-mstd0.5-inc1", mixup=0.1, cutmix=1.0, mix_probability=0.5),
        epochs=60,
        batch_size=256,
        lr=5e-3,
        weight_decay=0.05,
    )


@recipe
def vit_ti_max_cifar10() -> Recipe:
    """ViT-Ti-max of 6 blocks, with patches of 8x8 pixels, on CIFAR-10 at 64 pixels. No recorded result yet."""
    return replace(
        resnet50_hybrid_cifar10(),
        name="vit_ti_max_cifar10",
        model="vit_ti_max",
        model_options={"depth": 6, "patch_size": 8, "img_size": 64},
        optimizer="adamw",
        lr=1e-3,
    )


@recipe
def pit_ti_max_cifar10() -> Recipe:
    """PiT-Ti-max on CIFAR-10 at 96 pixels. No recorded result yet."""
    return replace(
        vit_ti_max_cifar10(),
        name="pit_ti_max_cifar10",
        model="pit_ti_max",
        model_options={"img_size": 96},
        data=_cifar10(96),  # 11x11 overlapping patches, 3x3 in the last stage
    )


@recipe
def resnet50_max_clothing() -> Recipe:
    """ResNet-50-max, half as wide, on 3,068 photographs of clothing. No recorded result yet."""
    return Recipe(
        name="resnet50_max_clothing",
        model="resnet50_max",
        model_options={"width": 1 / 2},
        data=Data(root="clothing.zip", train_split="train", validation_split="validation", image_size=112),
        augment=Augment(scale=(0.25, 1.0), policy="rand-m7-mstd0.5-inc1", mixup=0.1, cutmix=0.5, mix_probability=0.5),
        epochs=100,
        batch_size=128,
        lr=3.5e-3,
        weight_decay=0.1,
    )


@recipe
def resnet50_hybrid_clothing() -> Recipe:
    """ResNet-50-hybrid by the recipe of `resnet50_max_clothing`. No recorded result yet."""
    return replace(resnet50_max_clothing(), name="resnet50_hybrid_clothing", model="resnet50_hybrid")


@recipe
def resnet50_conv_clothing() -> Recipe:
    """ResNet-50 as it was, with a convolution in every block, by the same recipe. No recorded result yet."""
    base = resnet50_max_clothing()
    return replace(base, name="resnet50_conv_clothing", model_options={**base.model_options, "pooled": "none"})


@recipe
def pit_ti_max_clothing() -> Recipe:
    """PiT-Ti-max on 3,068 photographs of clothing, at 160 pixels. No recorded result yet."""
    base = resnet50_max_clothing()
    return replace(
        base,
        name="pit_ti_max_clothing",
        model="pit_ti_max",
        model_options={"img_size": 160, "drop_path_rate": 0.1},
        data=replace(base.data, image_size=160),
        optimizer="adamw",
        lr=1e-3,
    )


@recipe
def vit_ti_max_clothing() -> Recipe:
    """ViT-Ti-max of 6 blocks by the recipe of `pit_ti_max_clothing`. No recorded result yet."""
    base = pit_ti_max_clothing()
    options = {**base.model_options, "depth": 6}
    return replace(base, name="vit_ti_max_clothing", model="vit_ti_max", model_options=options)


def _cifar10(image_size: int) -> Data:
    return Data(
        root="cifar10-train.zip",
        validation_root="cifar10-test.zip",
        train_split="train",
        validation_split="test",
        image_size=image_size,
        crop_ratio=1.0,
    )
