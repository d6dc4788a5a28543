"""A run that takes a second and uses everything that has a state: what a resumed run must get right."""

from dataclasses import replace

from plainvision.training import Augment, Data, Machine, Recipe
from plainvision.training.techniques import EMA, DeepTraining, FuseAfterAnneal

DIGITS = Data(
    root="digits",
    channels=1,
    image_size=32,
    crop_ratio=1.0,
    mean=(0.3,),
    std=(0.37,),
    workers=0,
    interpolation="bilinear",
)
FEW = replace(DIGITS, train_per_class=24, validation_per_class=6)

EVERYTHING = Recipe(
    name="everything",
    model="vanillanet_5",
    model_options={"width": 1 / 64, "in_chans": 1, "drop_rate": 0.2},
    data=FEW,
    augment=Augment(
        scale=(0.6, 1.0), flip=0.5, policy="rand-m5-mstd0.5-inc1", mixup=0.2, cutmix=1.0, random_erasing=0.3
    ),
    epochs=4,
    batch_size=48,  # 5 steps an epoch
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.05,
    layer_decay=0.8,
    warmup_epochs=1,
    clip_grad=5.0,
    techniques=(DeepTraining(epochs=2), FuseAfterAnneal(), EMA(decay=0.8)),
    machine=Machine(threads=1, log_steps=2, checkpoint_steps=2),
)

# No batch norm, whose statistics are each process's own, and no Mixup, which pairs images within a process.
WITHOUT_BATCH_NORM = Recipe(
    name="without_batch_norm",
    model="test_vit",  # timm's own for tests: it learns within ten steps
    model_options={"img_size": 32, "in_chans": 1},
    data=replace(DIGITS, train_per_class=48, validation_per_class=12),
    augment=Augment(scale=(0.6, 1.0), flip=0.0),
    epochs=2,
    batch_size=96,
    optimizer="sgd",
    lr=0.05,
    schedule="constant",
    warmup_epochs=0,
    machine=Machine(threads=1, log_steps=1),
)

PLAIN = replace(WITHOUT_BATCH_NORM, name="plain", epochs=1, batch_size=48, data=FEW)

# Two epochs of two steps: what matters is which files are there.
TINY = Recipe(
    name="tiny",
    model="vanillanet_5",
    model_options={"width": 1 / 64, "in_chans": 1},
    data=replace(DIGITS, train_per_class=4, validation_per_class=2),
    augment=Augment(scale=(0.6, 1.0), flip=0.0),
    epochs=2,
    batch_size=20,
    optimizer="sgd",
    lr=1e-3,
    warmup_epochs=0,
    machine=Machine(threads=1, log_steps=1),
)
