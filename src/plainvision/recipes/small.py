"""Runs that a laptop or one GPU finishes: the embedded digits, CIFAR-10, 3,068 photographs of clothing.

Paper    VanillaNet: Chen et al. 2023, https://arxiv.org/abs/2305.12972; PatchConvNet: Touvron et al. 2021,
         https://arxiv.org/abs/2112.13692; layers without parameters: Han et al. 2022, https://arxiv.org/abs/2202.02777
Run      plainvision train vanillanet_digits --out runs/digits
         plainvision train patchconvnet_cifar10 --out runs/cifar10
         plainvision train resnet50_hybrid_clothing --data.root clothing.zip --out runs/clothing
Cost     the digits: under a minute on two CPU cores; vanillanet_clothing_short: minutes on one; all others: not
         measured yet
Expect   the digits: 97 % top-1 or more. results/clothing.json and results/patchconvnet_clothing.json have shortened
         schedules on the clothing; whole ones and CIFAR-10 have no recorded result yet

No settings here are published ones; the networks are narrow or shallow forms of the papers'. As in its paper, deep
training takes the first third of a run. Images are enlarged where a network needs more pixels: PatchConvNet's patches
have 16x16 of them, and pooling needs neighbours. PatchConvNet's LayerScale starts at 0.1: so few blocks need no 1e-4,
and these runs are too short to grow out of it. Archives are looked for in the working folder; --data.root and
--data.validation_root name another place.
"""

from dataclasses import replace

from plainvision.recipes.registry import recipe
from plainvision.training.recipe import Augment, Data, Machine, Recipe
from plainvision.training.techniques import EMA, DeepTraining, Distillation

DIGITS = Data(
    root="digits",
    channels=1,
    image_size=32,
    crop_ratio=1.0,
    mean=(0.31,),  # of the digits as they are read, enlarged to 32 pixels
    std=(0.35,),
)
CIFAR10 = Data(
    root="cifar10-train.zip",
    validation_root="cifar10-test.zip",
    validation_split="test",
    image_size=32,
    crop_ratio=1.0,
)
CLOTHING = Data(root="clothing.zip", image_size=112)


@recipe
def vanillanet_digits() -> Recipe:
    """VanillaNet-5, a sixteenth as wide, on the embedded digits. Expect 98 % top-1 or more, in a minute."""
    return Recipe(
        name="vanillanet_digits",
        model="vanillanet_5",
        model_options={"width": 1 / 16},
        data=DIGITS,
        augment=Augment(scale=(0.7, 1.0), flip=0.0),  # a mirrored 2 is not a 2
        epochs=24,
        batch_size=64,
        lr=1e-2,
        weight_decay=0.05,
        techniques=(DeepTraining(epochs=8),),
        # Two threads would spend their time waiting for each other, the more so on a busy machine.
        machine=Machine(threads=1),
    )


@recipe
def patchconvnet_digits() -> Recipe:
    """PatchConvNet of 4 blocks, 64 channels wide, on the embedded digits. Expect 97 % top-1 or more, in a minute."""
    return replace(
        vanillanet_digits(),
        model="patchconvnet_s20",
        model_options={"embed_dim": 64, "depth": 4, "layer_scale": 0.1},
        data=replace(DIGITS, image_size=64),  # 4x4 patches, of 2x2 pixels of the digits as they are stored
        techniques=(),
    )


@recipe
def vanillanet_cifar10() -> Recipe:
    """VanillaNet-6, a quarter as wide, on CIFAR-10. No recorded result yet."""
    return Recipe(
        name="vanillanet_cifar10",
        model="vanillanet_6",
        model_options={"width": 1 / 4, "drop_rate": 0.05},
        data=CIFAR10,
        augment=Augment(scale=(0.5, 1.0), policy="rand-m5-mstd0.5-inc1", mixup=0.1, cutmix=1.0, mix_probability=0.5),
        epochs=60,
        batch_size=256,
        lr=5e-3,
        weight_decay=0.05,
        # 195 steps make an epoch, so this averages over five.
        techniques=(DeepTraining(epochs=20), EMA(decay=0.999)),
    )


@recipe
def patchconvnet_cifar10() -> Recipe:
    """PatchConvNet of 12 blocks, 192 channels wide, on CIFAR-10 at 96 pixels. No recorded result yet."""
    return replace(
        vanillanet_cifar10(),
        model="patchconvnet_s20",
        model_options={"embed_dim": 192, "depth": 12, "layer_scale": 0.1},
        data=replace(CIFAR10, image_size=96),  # 6x6 patches; at its own 32 pixels an image has 2x2
        lr=3e-3,
        techniques=(),
    )


@recipe
def resnet50_hybrid_cifar10() -> Recipe:
    """ResNet-50-hybrid, half as wide, on CIFAR-10 at 64 pixels. No recorded result yet."""
    return replace(
        vanillanet_cifar10(),
        model="resnet50_hybrid",
        model_options={"width": 1 / 2},
        data=replace(CIFAR10, image_size=64),
        techniques=(),
    )


@recipe
def vit_ti_max_cifar10() -> Recipe:
    """ViT-Ti-max of 6 blocks, with patches of 8x8 pixels, on CIFAR-10 at 64 pixels. No recorded result yet."""
    return replace(
        resnet50_hybrid_cifar10(),
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
        model="pit_ti_max",
        model_options={"img_size": 96},
        data=replace(CIFAR10, image_size=96),  # 11x11 overlapping patches, 3x3 in the last stage
    )


@recipe
def vanillanet_clothing() -> Recipe:
    """VanillaNet-6, half as wide, from scratch on 3,068 photographs of clothing. No recorded result yet.

    At 112 pixels its deployed form needs 375 M multiply-adds, ResNet-18 485 M.
    """
    return Recipe(
        name="vanillanet_clothing",
        model="vanillanet_6",
        model_options={"width": 1 / 2, "drop_rate": 0.05},
        data=CLOTHING,
        augment=Augment(scale=(0.25, 1.0), policy="rand-m7-mstd0.5-inc1", mixup=0.1, cutmix=0.5, mix_probability=0.5),
        epochs=100,
        batch_size=128,
        lr=3.5e-3,
        weight_decay=0.1,
        # 23 steps make an epoch, so this averages over eleven.
        techniques=(DeepTraining(epochs=33), EMA(decay=0.996)),
    )


@recipe
def vanillanet_clothing_short() -> Recipe:
    """VanillaNet-6, an eighth as wide, on the clothing in 10 epochs at 64 pixels. Expect 47 % of the test images.

    A CPU core needs some minutes. It has no deep training: in so few steps, 230, linear pairs cost 13 points
    (results/clothing_causes.json).
    """
    base = vanillanet_clothing()
    return replace(
        base,
        model_options={**base.model_options, "width": 1 / 8, "linear_pairs": False},
        data=replace(base.data, image_size=64, workers=0),
        epochs=10,
        warmup_epochs=1,
        techniques=(EMA(decay=0.9),),
        machine=Machine(threads=1, channels_last=True),
    )


@recipe
def vanillanet_clothing_distilled() -> Recipe:
    """`vanillanet_clothing` with a teacher beside the labels, a probe of a pretrained network. No recorded result yet.

    The teacher comes from `plainvision probe tf_efficientnet_lite0 --pretrained --data.root clothing.zip
    --data.image-size 112 --save lite0_clothing.safetensors`: it sees what the student sees.
    """
    base = vanillanet_clothing()
    return replace(base, techniques=(*base.techniques, Distillation(teacher="lite0_clothing.safetensors")))


@recipe
def resnet18_clothing() -> Recipe:
    """ResNet-18 by the recipe of `vanillanet_clothing`, without deep training. No recorded result yet."""
    base = vanillanet_clothing()
    return replace(base, model="resnet18", model_options={"drop_rate": 0.05}, techniques=base.techniques[1:])


@recipe
def resnet50_max_clothing() -> Recipe:
    """ResNet-50-max, half as wide, on 3,068 photographs of clothing. No recorded result yet."""
    return replace(vanillanet_clothing(), model="resnet50_max", model_options={"width": 1 / 2}, techniques=())


@recipe
def resnet50_hybrid_clothing() -> Recipe:
    """ResNet-50-hybrid by the recipe of `resnet50_max_clothing`. No recorded result yet."""
    return replace(resnet50_max_clothing(), model="resnet50_hybrid")


@recipe
def resnet50_conv_clothing() -> Recipe:
    """ResNet-50 as it was, with a convolution in every block, by the same recipe. No recorded result yet."""
    base = resnet50_max_clothing()
    return replace(base, model_options={**base.model_options, "pooled": "none"})


@recipe
def pit_ti_max_clothing() -> Recipe:
    """PiT-Ti-max on 3,068 photographs of clothing, at 160 pixels. No recorded result yet."""
    return replace(
        resnet50_max_clothing(),
        model="pit_ti_max",
        model_options={"img_size": 160, "drop_path_rate": 0.1},
        data=replace(CLOTHING, image_size=160),
        optimizer="adamw",
        lr=1e-3,
    )


@recipe
def vit_ti_max_clothing() -> Recipe:
    """ViT-Ti-max of 6 blocks by the recipe of `pit_ti_max_clothing`. No recorded result yet."""
    base = pit_ti_max_clothing()
    options = {**base.model_options, "depth": 6}
    return replace(base, model="vit_ti_max", model_options=options)


@recipe
def patchconvnet_clothing() -> Recipe:
    """PatchConvNet of 12 blocks, 128 channels wide, on 3,068 photographs of clothing. No recorded result yet."""
    return replace(
        vanillanet_clothing(),
        model="patchconvnet_s20",
        model_options={"embed_dim": 128, "depth": 12, "layer_scale": 0.1},
        data=replace(CLOTHING, image_size=160),
        epochs=60,
        batch_size=64,
        lr=3e-3,
        weight_decay=0.05,
        techniques=(),
    )


@recipe
def patchconvnet_clothing_average() -> Recipe:
    """PatchConvNet by the recipe of `patchconvnet_clothing`, with average pooling. No recorded result yet."""
    base = patchconvnet_clothing()
    options = {**base.model_options, "pooling": "average"}
    return replace(base, model_options=options)


@recipe
def patchconvnet_clothing_per_class() -> Recipe:
    """`patchconvnet_clothing`, trained further with one class token per class. No recorded result yet."""
    base = patchconvnet_clothing()
    return replace(
        base,
        model_options={**base.model_options, "per_class": True},
        start_from=f"runs/{base.name}/last.safetensors",
        epochs=20,
        lr=3e-4,
        warmup_epochs=0,
    )
