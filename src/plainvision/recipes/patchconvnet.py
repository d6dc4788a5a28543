"""PatchConvNet from scratch on ImageNet-1k and on ImageNet-21k, and what each part of it is worth.

Paper    Touvron et al. 2021, https://arxiv.org/abs/2112.13692, section 3.3 (settings), Tables 1, 5 and B.3 (results)
Code     https://github.com/facebookresearch/deit, README_patchconvnet.md (networks; it has no training command) and
         main.py (the procedure that the paper starts from)
Run      plainvision train patchconvnet_s60_imagenet --data.root IMAGENET --out runs/patchconvnet_s60_imagenet
         where IMAGENET holds train/ and val/
Cost     512 million images on ImageNet-1k, 400 times the training set, as the paper; it gives no hours
Expect   top-1 of one run, per cent: 78.7, 80.7, 82.1 and 83.2 for S20 to S120, 82.8, 83.5 and 84.1 for B36 to B120;
         published, not yet reproduced here. Ten seeds of S60 differ by 0.11 (standard deviation; section 4.3)

One recipe serves all networks: stochastic depth is the only setting that the paper tunes for each, and weight decay
follows from the width.

What the paper leaves open, and how it is decided here:

- Warm-up and last learning rate: those of DeiT's main.py, 5 epochs from 1e-6, down to 1e-5.
- RandAugment: "the variant by Wightman et al.", taken as that of their 300-epoch procedure, magnitude 7.
- How many repeats: 3, as DeiT. An epoch of the paper has as many images as the training set, three of each third of
  it; an epoch here (`augment.repeats`) has three of each image. 400 of theirs are therefore 133 of ours, and 5 are 2.
- Test crop: DeiT's 0.875.
- Heads of the multi-head ablation: 8, those of CaiT for this width.
- Stochastic depth of L60 and L120, and of ImageNet-21k: Table B.3's, L as B of the same depth.
- The batch-norm runs share statistics between GPUs, as the paper says; each process needs one.
"""

from dataclasses import replace
from typing import NamedTuple

from plainvision.recipes.registry import add_recipe
from plainvision.training.recipe import Augment, Data, Option, Recipe

REPEATS = 3
WEIGHT_DECAY = {"s": 0.01, "b": 0.05}


class Row(NamedTuple):
    """A row of Table B.3: stochastic depth, and top-1 accuracy with each norm, per cent."""

    drop_path: float
    top1: float
    top1_batch_norm: float


class Change(NamedTuple):
    """A row of Table 5: what is changed in S60, the network's options for it, and top-1 accuracy, per cent."""

    words: str
    options: dict[str, Option]
    top1: float


TABLE_B3 = {
    "s20": Row(0.0, 78.7, 78.8),
    "s36": Row(0.05, 80.7, 81.2),
    "s60": Row(0.15, 82.1, 82.4),
    "s120": Row(0.2, 83.2, 83.4),
    "b36": Row(0.2, 82.8, 83.5),
    "b60": Row(0.3, 83.5, 83.9),
    "b120": Row(0.4, 84.1, 84.3),
}
# Batch norm, the row that is left out, is Table B.3's.
TABLE_5 = {
    "average_pooling": Change("average instead of attention pooling", {"pooling": "average"}, 81.9),
    "linear_stem": Change("a linear projection of patches instead of the convolutional stem", {"stem": "linear"}, 80.0),
    "multi_head": Change("attention pooling of 8 heads instead of one", {"heads": 8}, 81.9),
    "per_class": Change("one class token per class instead of a single one", {"per_class": True}, 81.1),
}
IMAGENET21K_DROP_PATH = {
    **{network: TABLE_B3[network].drop_path for network in ("s60", "b60", "b120")},
    "l60": TABLE_B3["b60"].drop_path,
    "l120": TABLE_B3["b120"].drop_path,
}


def imagenet(network: str) -> Recipe:
    """Return section 3.3's settings for ``network`` on ImageNet-1k."""
    return Recipe(
        name=f"patchconvnet_{network}_imagenet",
        model=f"patchconvnet_{network}",
        model_options={"drop_path_rate": TABLE_B3[network].drop_path},
        data=Data(root="imagenet", validation_split="val"),
        augment=Augment(policy="rand-m7-mstd0.5-inc1", mixup=0.8, cutmix=1.0, repeats=REPEATS),
        epochs=round(400 / REPEATS),
        batch_size=2048,
        optimizer="lamb",
        lr=3e-3,
        min_lr=1e-5,
        weight_decay=WEIGHT_DECAY[network[0]],
        warmup_epochs=round(5 / REPEATS),
        warmup_lr=1e-6,
        label_smoothing=0.1,
    )


def imagenet_batch_norm(network: str) -> Recipe:
    """Return the run of Table B.3 with batch norm."""
    base = imagenet(network)
    return replace(
        base,
        name=f"patchconvnet_{network}_batch_norm",
        model_options={**base.model_options, "norm": "batch"},
        machine=replace(base.machine, sync_batch_norm=True),
    )


def ablation(change: str) -> Recipe:
    """Return a run of Table 5."""
    base = imagenet("s60")
    options = {**base.model_options, **TABLE_5[change].options}
    return replace(base, name=f"patchconvnet_s60_{change}", model_options=options)


def imagenet21k(network: str) -> Recipe:
    """Return section 3.3's settings for ``network`` on ImageNet-21k; repeats and warm-up are plain epochs here."""
    base = imagenet("s60")
    return replace(
        base,
        name=f"patchconvnet_{network}_imagenet21k",
        model=f"patchconvnet_{network}",
        model_options={"drop_path_rate": IMAGENET21K_DROP_PATH[network]},
        data=replace(base.data, root="imagenet21k"),
        augment=replace(base.augment, repeats=1),
        epochs=90,
        weight_decay=0.01,
        warmup_epochs=5,
    )


def imagenet21k_large_batch(network: str) -> Recipe:
    """Return the same with the larger batch that the paper uses when it can."""
    return replace(
        imagenet21k(network), name=f"patchconvnet_{network}_imagenet21k_large_batch", batch_size=4096, lr=4e-3
    )


_IT = "PatchConvNet-{} on ImageNet-1k. Expect {:.1f} % top-1 (arXiv:2112.13692, {})."

for _network, _row in TABLE_B3.items():
    add_recipe(_IT.format(_network.upper(), _row.top1, "Table B.3, layer norm"), imagenet, _network)
for _name, _change in TABLE_5.items():
    add_recipe(_IT.format(f"S60 with {_change.words},", _change.top1, "Table 5"), ablation, _name)
for _network, _row in TABLE_B3.items():
    _words = _IT.format(f"{_network.upper()} with batch norm,", _row.top1_batch_norm, "Table B.3, batch norm")
    add_recipe(_words, imagenet_batch_norm, _network)
for _network in IMAGENET21K_DROP_PATH:
    for _build, _images in ((imagenet21k, 2048), (imagenet21k_large_batch, 4096)):
        add_recipe(
            f"PatchConvNet-{_network.upper()} on ImageNet-21k, {_images} images a step. No recorded result yet. The "
            f"paper's accuracies are those after fine-tuning, of `patchconvnet_{_network}_21k_to_1k`.",
            _build,
            _network,
        )
