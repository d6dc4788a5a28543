"""PatchConvNet, trained further: to ImageNet-1k from 21k, to larger images, to a token per class, to other data.

Paper    Touvron et al. 2021, https://arxiv.org/abs/2112.13692, sections 3.3 and 4.3 (settings), Tables 2, C.1, D.1 and
         D.2 (results)
Code     https://github.com/facebookresearch/deit, README_patchconvnet.md (the result of one token per class)
Run      plainvision train patchconvnet_s60_higher_resolution --data.root IMAGENET --start-from WEIGHTS --out runs/384
         plainvision train patchconvnet_s60_to_cars --data.root CARS --start-from WEIGHTS --out runs/cars
         where WEIGHTS is a run's last.safetensors or an official checkpoint. Without --start-from they are looked for
         in runs/RECIPE/, RECIPE being the run before this one. --data.image-size gives another resolution
Cost     100 epochs from ImageNet-21k, 10 at another resolution, 360 or 1000 on other data; no hours are published
Expect   the top-1 of one run that each table below holds, published, not yet reproduced here

Stochastic depth is 0.1 below the value of the run before, as section 4.3 says of fine-tuning on ImageNet-1k; where that
is 0 or 0.05 (S20, S36), none is left.

What the paper leaves open on ImageNet-1k, and how it is decided here:

- Repeated augmentation: it is "only" used on ImageNet-1k, said of training from scratch; no fine-tuning repeats.
- Which size follows which: from ImageNet-21k to 384 pixels and then "bigger", says section 4.1, so that the 512 pixels
  start from the 384. The 224 and 288 of Table 2 are taken as that first step at another --data.image-size.
- Weight decay after ImageNet-21k: 0.01, as in the steps before and after it. Its warm-up: DeiT's 5 epochs.
- The shape of the resolution's schedule: its rate is "fixed", hence constant and without warm-up; so is the one of
  DeiT's command for this step.
- The results "obtained with a longer training", in italics in Table 2, come without any settings; no recipe here stands
  for them.
- One token per class: "a lower learning rate and smaller batch size" without numbers; those of the resolution here.

On other data the paper follows "the procedure used in CaiT and DeiT". Its settings are in answers of its first author:

- CIFAR-10 and Cars: https://github.com/facebookresearch/deit/issues/45, SGD at 0.01, 768 images a step, 1000 epochs,
  weight decay 1e-4, neither erasing nor stochastic depth. CIFAR-100 and Flowers, unnamed there, get the same.
- iNaturalist: https://github.com/facebookresearch/deit/issues/105, AdamW at 7.5e-5, 768 images a step, 360 epochs,
  weight decay 0.05, erasing 0.1, stochastic depth 0.1. That is said of DeiT-B, and taken for both networks.
- Both: RandAugment of magnitude 9, Mixup 0.8, CutMix 1.0, label smoothing 0.1, and main.py's warm-up and last rate. No
  repeats, which this paper keeps to ImageNet-1k.
- Flowers' 2,040 training images (Table D.1) are its training and its validation split together.
- The weights to start from: those of ImageNet-1k, as of the networks that Table D.2 compares; the paper does not say.
"""

from dataclasses import replace
from typing import NamedTuple

from plainvision.recipes.patchconvnet import TABLE_B3, imagenet, imagenet21k
from plainvision.recipes.registry import add_recipe, recipe
from plainvision.training.recipe import Option, Recipe

# Top-1 on ImageNet-1k, per cent: by the side of the images, in pixels, and of larger images without ImageNet-21k.
TABLE_2 = {
    "s60": {224: 82.9, 288: 84.0, 384: 84.6, 512: 85.0},
    "b60": {224: 85.0, 288: 85.7, 384: 86.1},
    "l60": {224: 85.6, 288: 86.1, 384: 86.4},
    "b120": {224: 86.0, 288: 86.6, 384: 86.9},
    "l120": {224: 86.1, 288: 86.6, 384: 87.1},
}
TABLE_C1_384 = {"s60": 83.7, "b120": 85.2}


class Task(NamedTuple):
    """A data set of Table D.1, and Table D.2's results on it."""

    words: str
    """Its name."""
    validation_split: str
    inaturalist: bool
    """Whether it is one of iNaturalist's, which have settings of their own."""
    top1: dict[str, tuple[float, float]]
    """At 224 and at 320 pixels, per cent."""


TRANSFER = {
    "cifar10": Task("CIFAR-10", "test", False, {"s60": (99.2, 99.1), "b120": (99.2, 99.1)}),
    "cifar100": Task("CIFAR-100", "test", False, {"s60": (91.4, 91.4), "b120": (91.1, 91.2)}),
    "flowers": Task("Flowers-102", "test", False, {"s60": (98.8, 98.9), "b120": (99.0, 99.1)}),
    "cars": Task("Stanford Cars", "test", False, {"s60": (94.0, 94.5), "b120": (94.4, 94.8)}),
    "inat18": Task("iNaturalist 2018", "val", True, {"s60": (72.9, 76.8), "b120": (74.3, 79.6)}),
    "inat19": Task("iNaturalist 2019", "val", True, {"s60": (78.1, 81.4), "b120": (79.5, 82.5)}),
}


def imagenet21k_to_1k(network: str) -> Recipe:
    """Return section 3.3's fine-tuning from ImageNet-21k, with a new classifier, at 384 pixels."""
    base = imagenet21k(network)
    return replace(
        base,
        name=f"patchconvnet_{network}_21k_to_1k",
        start_from=_weights_of(base),
        new_classifier=True,
        model_options=_less_drop_path(base),
        data=replace(base.data, root="imagenet", image_size=384),
        epochs=100,
        batch_size=1024,
        lr=5e-4,
        weight_decay=0.01,
    )


def higher_resolution(network: str) -> Recipe:
    """Return section 3.3's fine-tuning at a higher resolution, 384 pixels, of a network trained on ImageNet-1k."""
    base = imagenet(network)
    return replace(
        _slowly(base),
        name=f"patchconvnet_{network}_higher_resolution",
        start_from=_weights_of(base),
        model_options=_less_drop_path(base),
        data=replace(base.data, image_size=384),
    )


def transfer_to(network: str, name: str) -> Recipe:
    """Return the fine-tuning of ``network`` on another data set."""
    base, task = imagenet(network), TRANSFER[name]
    common = replace(
        base,
        name=f"patchconvnet_{network}_to_{name}",
        start_from=_weights_of(base),
        new_classifier=True,
        data=replace(base.data, root=name, validation_split=task.validation_split),
        augment=replace(base.augment, policy="rand-m9-mstd0.5-inc1", repeats=1),
        batch_size=768,
        warmup_epochs=5,
    )
    if task.inaturalist:
        return replace(
            common,
            model_options={"drop_path_rate": 0.1},
            augment=replace(common.augment, random_erasing=0.1),
            epochs=360,
            optimizer="adamw",
            lr=7.5e-5,
            weight_decay=0.05,
        )
    return replace(
        common, model_options={"drop_path_rate": 0.0}, epochs=1000, optimizer="sgd", lr=0.01, weight_decay=1e-4
    )


def _slowly(base: Recipe) -> Recipe:
    """Return ``base`` with the few epochs at a low rate that the paper has for larger images."""
    return replace(
        base,
        augment=replace(base.augment, repeats=1),
        epochs=10,
        batch_size=1024,
        lr=1e-5,
        weight_decay=0.01,
        schedule="constant",
        warmup_epochs=0,
    )


def _less_drop_path(base: Recipe) -> dict[str, Option]:
    drop_path = base.model_options["drop_path_rate"]
    assert isinstance(drop_path, float)
    return {**base.model_options, "drop_path_rate": round(max(0.0, drop_path - 0.1), 2)}


def _weights_of(base: Recipe) -> str:
    return f"runs/{base.name}/last.safetensors"


for _network, _by_size in TABLE_2.items():
    _sizes = " and ".join(f"{_by_size[size]:.1f} % at {size} pixels" for size in (224, 288))
    add_recipe(
        f"PatchConvNet-{_network.upper()} from ImageNet-21k to ImageNet-1k, at 384 pixels. Expect {_by_size[384]:.1f} "
        f"% top-1 (arXiv:2112.13692, Table 2).\n\nAt other sizes, set with --data.image-size, the table has {_sizes}.",
        imagenet21k_to_1k,
        _network,
    )
for _network in TABLE_B3:
    _result = "No recorded result yet."
    if _network in TABLE_C1_384:
        _result = f"Expect {TABLE_C1_384[_network]:.1f} % top-1 (arXiv:2112.13692, Table C.1)."
    _what = f"PatchConvNet-{_network.upper()} on ImageNet-1k, from 224 to 384 pixels."
    add_recipe(f"{_what} {_result}", higher_resolution, _network)
for _name, _task in TRANSFER.items():
    for _network, _top1 in _task.top1.items():
        _what = f"PatchConvNet-{_network.upper()} from ImageNet-1k to {_task.words}."
        _result = f"Expect {_top1[0]:.1f} % top-1 (arXiv:2112.13692, Table D.2)."
        _larger = f"With --data.image-size 320 the table has {_top1[1]:.1f} %."
        add_recipe(f"{_what} {_result}\n\n{_larger}", transfer_to, _network, _name)


@recipe
def transfer() -> Recipe:
    """PatchConvNet-S60 from ImageNet-1k to your images, as Table D.2's small data sets. No recorded result yet.

    --start-from and --model give other weights and another network. --layer-decay 0.8 lets lower layers learn at lower
    rates, --with FrozenBackbone:epochs=20 the classifier alone at first. The recipes `..._to_...` have the table's
    data sets and results; `finetune` is for few images, and ends in minutes.
    """
    base = transfer_to("s60", "cars")
    return replace(base, data=replace(base.data, root="images", validation_split="validation"))


@recipe
def patchconvnet_s60_21k_512() -> Recipe:
    """PatchConvNet-S60 after ImageNet-21k, from 384 to 512 pixels. Expect 85.0 % top-1 (arXiv:2112.13692, Table 2)."""
    base = imagenet21k_to_1k("s60")
    return replace(
        _slowly(base), start_from=_weights_of(base), new_classifier=False, data=replace(base.data, image_size=512)
    )


@recipe
def patchconvnet_s60_multi_finetune() -> Recipe:
    """PatchConvNet-S60 from one class token to one per class, on ImageNet-1k. Expect 82.0 % top-1 (Code, above).

    Each class starts from the trained token. `patchconvnet_s60_per_class` trains all of them from scratch.
    """
    base = imagenet("s60")
    return replace(
        _slowly(base),
        start_from=_weights_of(base),
        model="patchconvnet_s60_multi",
        model_options=_less_drop_path(base),
    )
