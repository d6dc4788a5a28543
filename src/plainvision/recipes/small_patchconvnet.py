"""PatchConvNet narrow and shallow, for a laptop or one GPU: the embedded digits, CIFAR-10, photographs of clothing.

Paper    Touvron et al. 2021, https://arxiv.org/abs/2112.13692; its S20 with other `embed_dim`, `depth`, `layer_scale`
Run      plainvision train patchconvnet_digits --out runs/digits
         plainvision train patchconvnet_cifar10 --out runs/cifar10
         plainvision train patchconvnet_clothing --out runs/patchconvnet_clothing
         plainvision train patchconvnet_clothing_average --out runs/patchconvnet_clothing_average
         plainvision train patchconvnet_clothing_per_class --out runs/patchconvnet_clothing_per_class
Cost     the digits: under a minute on two CPU cores
Expect   the digits: 97 % top-1 or more. Clothing: results/patchconvnet_clothing.json has a shortened schedule, half of
         the epochs at 128 pixels; the whole one and CIFAR-10 have no recorded result yet

No settings here are published ones. A patch has 16x16 pixels, so small images are enlarged until there are patches to
attend to. LayerScale starts at 0.1: so few blocks need no 1e-4, and these runs are too short to grow out of it. The
archives are looked for in the working folder; --data.root and --data.validation_root name another place.
"""

from dataclasses import replace

from plainvision.recipes.registry import recipe
from plainvision.training.recipe import Augment, Data, Machine, Recipe


@recipe
def patchconvnet_digits() -> Recipe:
    """PatchConvNet of 4 blocks, 64 channels wide, on the embedded digits. Expect 97 % top-1 or more, in a minute."""
    return Recipe(
        name="patchconvnet_digits",
        model="patchconvnet_s20",
        model_options={"embed_dim": 64, "depth": 4, "layer_scale": 0.1, "in_chans": 1},
        data=Data(
            root="digits",
            channels=1,
            image_size=64,  # 4x4 patches, of 2x2 pixels of the digits as they are stored
            crop_ratio=1.0,
            mean=(0.31,),
            std=(0.35,),
            workers=0,  # 1,797 small images: a second process costs more than it brings
        ),
        augment=Augment(scale=(0.7, 1.0), flip=0.0),  # a mirrored 2 is not a 2
        epochs=24,
        batch_size=64,
        lr=1e-2,
        weight_decay=0.05,
        # Two threads would spend their time waiting for each other, the more so on a busy machine.
        machine=Machine(threads=1),
    )


@recipe
def patchconvnet_cifar10() -> Recipe:
    """PatchConvNet of 12 blocks, 192 channels wide, on CIFAR-10 at 96 pixels. No recorded result yet."""
    return Recipe(
        name="patchconvnet_cifar10",
        model="patchconvnet_s20",
        model_options={"embed_dim": 192, "depth": 12, "layer_scale": 0.1},
        data=Data(
            root="cifar10-train.zip",
            validation_root="cifar10-test.zip",
            train_split="train",
            validation_split="test",
            image_size=96,  # 6x6 patches; at its own 32 pixels an image has 2x2
            crop_ratio=1.0,
        ),
        augment=Augment(scale=(0.5, 1.0), policy="rand-m5-mstd0.5-inc1", mixup=0.1, cutmix=1.0, mix_probability=0.5),
        epochs=60,
        batch_size=256,
        lr=3e-3,
        weight_decay=0.05,
    )


@recipe
def patchconvnet_clothing() -> Recipe:
    """PatchConvNet of 12 blocks, 128 channels wide, on 3,068 photographs of clothing. No recorded result yet."""
    return Recipe(
        name="patchconvnet_clothing",
        model="patchconvnet_s20",
        model_options={"embed_dim": 128, "depth": 12, "layer_scale": 0.1},
        data=Data(root="clothing.zip", train_split="train", validation_split="validation", image_size=160),
        augment=Augment(scale=(0.25, 1.0), policy="rand-m7-mstd0.5-inc1", mixup=0.1, cutmix=0.5, mix_probability=0.5),
        epochs=60,
        batch_size=64,
        lr=3e-3,
        weight_decay=0.05,
    )


@recipe
def patchconvnet_clothing_average() -> Recipe:
    """PatchConvNet by the recipe of `patchconvnet_clothing`, with average pooling. No recorded result yet."""
    base = patchconvnet_clothing()
    return replace(
        base,
        name="patchconvnet_clothing_average",
        model_options={**base.model_options, "pooling": "average"},
    )


@recipe
def patchconvnet_clothing_per_class() -> Recipe:
    """`patchconvnet_clothing`, trained further with one class token per class. No recorded result yet."""
    base = patchconvnet_clothing()
    return replace(
        base,
        name="patchconvnet_clothing_per_class",
        model_options={**base.model_options, "per_class": True},
        start_from=f"runs/{base.name}/last.safetensors",
        epochs=20,
        lr=3e-4,
        warmup_epochs=0,
    )
