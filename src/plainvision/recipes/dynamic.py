"""Random option fine-tuning of trained networks: ResNet-50 on ImageNet-1k, ResNet-20 on CIFAR-10.

Paper    Inkawhich et al. 2021, https://arxiv.org/abs/2103.09891, section 3.4 and appendix (settings), Table 2 (results)
Run      plainvision train resnet50_rof_stride --data.root IMAGENET --start-from WEIGHTS --out runs/resnet50_rof_stride
         plainvision train resnet20_cifar_rof_stride --start-from WEIGHTS --out runs/resnet20_rof_stride
         and the same with _dilation, _size and _stride_size. IMAGENET holds train/ and val/; WEIGHTS is the path or
         URL of a trained network's weights; without --start-from the run would begin with random ones. The paper takes
         ResNet-50 from the PyTorch Model Zoo, for instance https://download.pytorch.org/models/resnet50-0676ba61.pth
Cost     19 million images for ResNet-50, 750,000 for ResNet-20; no hours are published
Expect   of ResNet-50, top-1 of the worst, the median and the best permutation of each image, per cent: stride 1.5, 57.6
         and 92.2; dilation 64.6, 76.0 and 84.6; size 49.6, 75.3 and 88.1; strides and sizes together (Figure 6): 94.0
         of the best, at 0.3 G multiply-adds where each image takes the cheapest of its best answers. Published, not
         yet reproduced here. The paper has no ResNet-20

Published are the network and its four sites, the options, the 15 epochs, SGD with a momentum of 0.9, a weight decay of
1e-4 and a rate of 1e-3, 1e-4 after 10 epochs, and that each batch has a permutation of its own. What is left open, and
how it is decided here:

- Batch size: 256 on ImageNet-1k, 128 on CIFAR-10.
- Augmentation: random crops and flips alone. Those of CIFAR-10 keep 80 % or more of an image, which has few pixels to
  lose. Images of ImageNet-1k are resized bilinearly, as for the Model Zoo.
- Nesterov momentum, label smoothing, warm-up: none. Biases and norms are spared the weight decay, as everywhere here.
- Strides: section 3.1 has its own bounds on memory; `plainvision.dynamic.Space.paper` says how they are met.
- Strides and sizes together: a step draws from all 4096 permutations of the options of section 4.6.

ResNet-20 follows the same schedule. Its first block's shortcut keeps the size of the image, so that site B keeps its
stride. The archives are looked for in the working folder; --data.root and --data.validation_root name another place.
"""

from dataclasses import replace
from typing import Literal

from plainvision.recipes.registry import add_recipe
from plainvision.recipes.small import CIFAR10
from plainvision.training.recipe import Augment, Data, Recipe
from plainvision.training.techniques import RandomOptions

Attribute = Literal["stride", "dilation", "size"]

ATTRIBUTES: tuple[Attribute, ...] = ("stride", "dilation", "size")
# Of Figure 6, section 4.6.
EFFICIENCY = RandomOptions(attribute=None, stride=(1, 2, 3, 4), size=(1, 3))
CIFAR_STRIDES: dict[str, tuple[float, ...]] = {
    "A": (1, 2, 3, 4),
    "B": (1,),
    "C": (1, 2, 3, 4),
    "D": (0.5, 1, 2, 3, 4),
}


def imagenet(technique: RandomOptions) -> Recipe:
    """Return the paper's settings for ResNet-50."""
    return Recipe(
        name=f"resnet50_rof_{_changes(technique)}",
        model="resnet50",
        data=Data(root="imagenet", validation_split="val", resize="squash", interpolation="bilinear"),
        epochs=15,
        batch_size=256,
        optimizer="momentum",  # timm's name for SGD without Nesterov's
        lr=1e-3,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="step",
        decay_epochs=10,
        warmup_epochs=0,
        label_smoothing=0.0,
        techniques=(technique,),
    )


def cifar10(technique: RandomOptions) -> Recipe:
    """Return the same schedule for ResNet-20, whose strides are those that it can have."""
    if technique == EFFICIENCY:
        whole = {site: tuple(value for value in values if value >= 1) for site, values in CIFAR_STRIDES.items()}
        technique = replace(technique, stride=whole)
    elif technique.attribute == "stride":
        technique = RandomOptions(attribute=None, stride=CIFAR_STRIDES)
    return replace(
        imagenet(technique),
        name=f"resnet20_cifar_rof_{_changes(technique)}",
        model="resnet20_cifar",
        data=CIFAR10,
        augment=Augment(scale=(0.8, 1.0)),
        batch_size=128,
        techniques=(technique,),
    )


def _changes(technique: RandomOptions) -> str:
    """Return what changes, as in the names of recipes."""
    return technique.attribute or "_".join(name for name in ATTRIBUTES if getattr(technique, name) is not None)


for _technique in (*map(RandomOptions, ATTRIBUTES), EFFICIENCY):
    _options = f"{_changes(_technique).replace('_', 's and ')}s"
    for _words, _build in (
        ("ResNet-50, given by --start-from, on ImageNet-1k", imagenet),
        ("ResNet-20, given by --start-from, on CIFAR-10", cifar10),
    ):
        add_recipe(f"{_words} with random {_options}. No recorded result yet.", _build, _technique)
