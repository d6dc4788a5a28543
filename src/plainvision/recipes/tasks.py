"""Runs that detect and segment, for `plainvision detect train` and `plainvision segment train`.

Paper    VanillaNet: Chen et al. 2023, https://arxiv.org/abs/2305.12972, Table 5; PatchConvNet: Touvron et al. 2021,
         https://arxiv.org/abs/2112.13692, Tables 3 and 4
Run      plainvision detect train retinanet --data.root trees.zip --out runs/trees
         plainvision segment train upernet --data.root photos --num-classes 5 --out runs/areas
Differs  the papers name schedules and give few settings: those here are Swin Transformer's (arXiv:2103.14030), whose
         schedules they follow, and for VanillaNet the layer-wise decay of its own Table 7. `retinanet`, `mask_rcnn` and
         `upernet` are for data of your own: smaller images, and a network that a GPU of 8 GB trains; those called
         `small` train in minutes on a CPU
Expect   results/learn_shapes.json has the small ones on drawn shapes; the others have no recorded result yet
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from plainvision.tasks.learning import Detection, Segmentation
from plainvision.training.recipe import Augment, Data, Recipe

COCO = Data(root="coco", train_split="train2017", validation_split="val2017", image_size=800)
ADE20K = Data(root="ADEChallengeData2016", train_split="training", validation_split="validation", image_size=512)


def retinanet() -> Recipe:
    """RetinaNet with VanillaNet-6 on boxes of your own, at 480 pixels. No recorded result yet."""
    return Recipe(
        name="retinanet",
        model="vanillanet_6",
        data=Data(image_size=480),
        augment=Augment(scale=(0.5, 1.0), color_jitter=0.2),
        epochs=50,
        batch_size=8,
        optimizer="adamw",
        lr=2e-4,
        weight_decay=0.05,
        warmup_epochs=2,
        clip_grad=10.0,
        label_smoothing=0.0,
        task=Detection("retinanet"),
    )


def mask_rcnn() -> Recipe:
    """Mask R-CNN with VanillaNet-6 on masks of your own, at 480 pixels. No recorded result yet."""
    return replace(retinanet(), name="mask_rcnn", task=Detection("mask_rcnn"))


def retinanet_small() -> Recipe:
    """RetinaNet, 64 wide, with VanillaNet-5 a sixteenth as wide, at 128 pixels: for a CPU.

    Expect an AP50 of 97 % on the shapes of results/learn_shapes.json, in about a minute of a CPU.
    """
    return replace(
        retinanet(),
        name="retinanet_small",
        model="vanillanet_5",
        model_options={"width": 1 / 16},
        data=Data(image_size=128),
        augment=Augment(scale=(1.0, 1.0)),
        epochs=8,
        batch_size=4,
        lr=1e-3,
        warmup_epochs=1,
        task=Detection("retinanet", width=64),
    )


def mask_rcnn_small() -> Recipe:
    """Mask R-CNN, 64 wide, by the recipe of `retinanet_small`.

    Expect an AP50 of 89 % of boxes and of masks on the shapes of results/learn_shapes.json, in two minutes of a CPU.
    """
    return replace(
        retinanet_small(), name="mask_rcnn_small", epochs=5, task=Detection("mask_rcnn", width=64, rois_per_image=32)
    )


def vanillanet_13_retinanet_coco() -> Recipe:
    """RetinaNet with VanillaNet-13 on COCO, 12 epochs: 41.8 box AP in the paper. No recorded result yet."""
    return replace(
        retinanet(),
        name="vanillanet_13_retinanet_coco",
        model="vanillanet_13",
        data=COCO,
        augment=Augment(scale=(1.0, 1.0)),
        epochs=12,
        batch_size=16,
        lr=1e-4,
        layer_decay=0.8,
        schedule="step",
        decay_epochs=8,
        warmup_epochs=1,
    )


def vanillanet_13_mask_rcnn_coco() -> Recipe:
    """Mask R-CNN with VanillaNet-13 on COCO: 42.9 box AP, 39.6 mask AP in the paper. No recorded result yet."""
    found = vanillanet_13_retinanet_coco()
    return replace(found, name="vanillanet_13_mask_rcnn_coco", task=Detection("mask_rcnn"))


def patchconvnet_s60_mask_rcnn_coco() -> Recipe:
    """Mask R-CNN with PatchConvNet-S60 on COCO, 36 epochs: 46.4 box AP in the paper. No recorded result yet."""
    return replace(
        vanillanet_13_mask_rcnn_coco(),
        name="patchconvnet_s60_mask_rcnn_coco",
        model="patchconvnet_s60",
        augment=Augment(scale=(0.36, 1.0)),
        epochs=36,
        layer_decay=None,
        decay_epochs=27,
    )


def upernet() -> Recipe:
    """UPerNet, half as wide, with VanillaNet-6 on maps of labels of your own. No recorded result yet."""
    return replace(
        retinanet(),
        name="upernet",
        data=Data(image_size=320),
        augment=Augment(scale=(0.25, 1.0), color_jitter=0.2),
        clip_grad=None,
        task=Segmentation(width=256),
    )


def upernet_small() -> Recipe:
    """UPerNet, 48 wide, with PatchConvNet of 6 blocks, 128 wide, at 128 pixels: for a CPU.

    Expect a mean IoU of 80 % or more from the 1,200 images of results/learn_shapes.json, in four minutes of a CPU.
    """
    return replace(
        retinanet_small(),
        name="upernet_small",
        model="patchconvnet_s20",
        model_options={"embed_dim": 128, "depth": 6, "layer_scale": 0.1},
        clip_grad=None,
        task=Segmentation(width=48),
    )


def patchconvnet_s60_upernet_ade20k() -> Recipe:
    """UPerNet with PatchConvNet-S60 on ADE20k, 160,000 steps: 46.0 mIoU in the paper. No recorded result yet."""
    return replace(
        upernet(),
        name="patchconvnet_s60_upernet_ade20k",
        model="patchconvnet_s60",
        num_classes=150,
        data=ADE20K,
        augment=Augment(scale=(0.25, 1.0), color_jitter=0.4),
        epochs=127,  # 160,000 steps of 16 of 20,210 images
        batch_size=16,
        lr=6e-5,
        weight_decay=0.01,
        task=Segmentation(zero_ignored=True),
    )


def _by_name(*builders: Callable[[], Recipe]) -> Mapping[str, Callable[[], Recipe]]:
    return {build.__name__: build for build in builders}


TASK_RECIPES = {
    "detect": _by_name(
        retinanet,
        mask_rcnn,
        retinanet_small,
        mask_rcnn_small,
        vanillanet_13_retinanet_coco,
        vanillanet_13_mask_rcnn_coco,
        patchconvnet_s60_mask_rcnn_coco,
    ),
    "segment": _by_name(upernet, upernet_small, patchconvnet_s60_upernet_ade20k),
}
"""Recipes by the command that trains them, and by name."""
