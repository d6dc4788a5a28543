"""Runs that a laptop or one GPU finishes: the embedded digits, CIFAR-10, 3,068 photographs of clothing.

Paper    Chen et al. 2023, https://arxiv.org/abs/2305.12972; its networks are narrowed by `width`
Run      plainvision train vanillanet_digits --out runs/digits
         plainvision train vanillanet_cifar10 --out runs/cifar10
         plainvision train vanillanet_clothing --out runs/clothing
Cost     the digits: under a minute on two CPU cores
Expect   the digits: 98 % top-1 or more. Clothing: results/clothing.json has a shortened schedule, a tenth of the
         epochs at 64 pixels; the whole one and CIFAR-10 have no recorded result yet

No settings here are published ones. As in the paper, deep training takes the first third of each run. The
archives are looked for in the working folder; --data.root and --data.validation_root name another place.
"""

from dataclasses import replace

from plainvision.recipes.registry import recipe
from plainvision.training.recipe import Augment, Data, Machine, Recipe
from plainvision.training.techniques import EMA, DeepTraining


@recipe
def vanillanet_digits() -> Recipe:
    """VanillaNet-5, a sixteenth as wide, on the embedded digits. Expect 98 % top-1 or more, in a minute."""
    return Recipe(
        name="vanillanet_digits",
        model="vanillanet_5",
        model_options={"width": 1 / 16, "in_chans": 1},
        data=Data(
            root="digits",
            channels=1,
            image_size=32,
            crop_ratio=1.0,
            mean=(0.31,),  # of the digits as they are read, enlarged to 32 pixels
            std=(0.35,),
            workers=0,  # 1,797 small images: a second process costs more than it brings
        ),
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
def vanillanet_cifar10() -> Recipe:
    """VanillaNet-6, a quarter as wide, on CIFAR-10. No recorded result yet."""
    return Recipe(
        name="vanillanet_cifar10",
        model="vanillanet_6",
        model_options={"width": 1 / 4, "drop_rate": 0.05},
        data=Data(
            root="cifar10-train.zip",
            validation_root="cifar10-test.zip",
            train_split="train",
            validation_split="test",
            image_size=32,
            crop_ratio=1.0,
        ),
        augment=Augment(scale=(0.5, 1.0), policy="rand-m5-mstd0.5-inc1", mixup=0.1, cutmix=1.0, mix_probability=0.5),
        epochs=60,
        batch_size=256,
        lr=5e-3,
        weight_decay=0.05,
        # 195 steps make an epoch, so this averages over five.
        techniques=(DeepTraining(epochs=20), EMA(decay=0.999)),
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
        data=Data(root="clothing.zip", train_split="train", validation_split="validation", image_size=112),
        augment=Augment(scale=(0.25, 1.0), policy="rand-m7-mstd0.5-inc1", mixup=0.1, cutmix=0.5, mix_probability=0.5),
        epochs=100,
        batch_size=128,
        lr=3.5e-3,
        weight_decay=0.1,
        # 23 steps make an epoch, so this averages over eleven.
        techniques=(DeepTraining(epochs=33), EMA(decay=0.996)),
    )


@recipe
def resnet18_clothing() -> Recipe:
    """ResNet-18 by the recipe of `vanillanet_clothing`, without deep training. No recorded result yet."""
    base = vanillanet_clothing()
    return replace(
        base,
        name="resnet18_clothing",
        model="resnet18",
        model_options={"drop_rate": 0.05},
        techniques=tuple(item for item in base.techniques if not isinstance(item, DeepTraining)),
    )
