"""ResNet-50 with attention pooling and with its own average pooling, on ImageNet-1k by one and the same recipe.

Paper    Touvron et al. 2021, https://arxiv.org/abs/2112.13692, section 4.3 (results); the settings are those of
         Wightman et al. 2021, https://arxiv.org/abs/2110.00476, procedure A2
Run      plainvision train resnet50_attention_pooling --data.root IMAGENET --out runs/attention
         plainvision train resnet50_average_pooling --data.root IMAGENET --out runs/average
Cost     384 million images, 300 times the training set, as the paper; attention pooling takes 4.6 instead of 4.1 G
         multiply-adds. No hours are published
Expect   top-1 of one run, per cent: 80.1 with attention pooling, 79.8 with average pooling; published, not yet
         reproduced here

- An epoch here holds each image three times (`augment.repeats`), one of the paper a third of the images three times:
  300 of theirs are 100 of ours, and 5 of warm-up are 2.
- A2 does not print the first rate of the warm-up nor the last one: 0 and 1e-6 here.
"""

from dataclasses import replace

from plainvision.recipes.registry import recipe
from plainvision.training.recipe import Augment, Data, Recipe
from plainvision.training.techniques import AttentionPooling


@recipe
def resnet50_average_pooling() -> Recipe:
    """ResNet-50 with average pooling on ImageNet-1k. Expect 79.8 % top-1 (arXiv:2112.13692, section 4.3)."""
    return Recipe(
        name="resnet50_average_pooling",
        model="resnet50",
        model_options={"drop_path_rate": 0.05},
        data=Data(root="imagenet", validation_split="val", crop_ratio=0.95),
        augment=Augment(policy="rand-m7-mstd0.5-inc1", mixup=0.1, cutmix=1.0, repeats=3),
        epochs=100,
        batch_size=2048,
        optimizer="lamb",
        lr=5e-3,
        weight_decay=0.02,
        warmup_epochs=2,
        loss="bce",
        label_smoothing=0.0,
        bce_threshold=0.0,  # every class of a mixed image counts as present
    )


@recipe
def resnet50_attention_pooling() -> Recipe:
    """ResNet-50 with attention pooling on ImageNet-1k. Expect 80.1 % top-1 (arXiv:2112.13692, section 4.3)."""
    return replace(resnet50_average_pooling(), techniques=(AttentionPooling(),))
