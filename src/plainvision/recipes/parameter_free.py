"""Networks with parameter-free layers on ImageNet-1k: ResNet-50-max and -hybrid, ViT-S-max and PiT-S-max.

Paper    Han et al. 2022, https://arxiv.org/abs/2202.02777
Code     https://github.com/naver-ai/PfLayer, README: the results, the command of R50-hybrid's 90 epochs, for timm's
         train.py, and that of ViT and PiT, for DeiT's main.py (https://github.com/facebookresearch/deit)
Run      plainvision train resnet50_hybrid_imagenet --data.root IMAGENET --out runs/resnet50_hybrid_imagenet
         where IMAGENET holds train/ and val/
Cost     115 million images for 90 epochs and 384 million for 300. The command of ResNet is one for 4 GPUs with 256
         images each, and so is the one of ViT; no hours are published
Expect   top-1 of one run, per cent: 76.2 for ResNet-50, 74.3 for R50-max and 77.1 for R50-hybrid, the last two 75.5
         and 78.0 after longer training; 77.6 for ResNet-50 with CutMix and 78.8 by DeiT's settings; 74.2, 77.3 and
         80.0 for ViT-S-max and 75.7, 78.1 and 80.8 for PiT-S-max, by the vanilla settings, with CutMix and by DeiT's;
         published, not yet reproduced here

What is left open, and how it is decided here:

- ResNet: what the command does not name is timm's default of that time: Nesterov momentum of 0.9, color jitter of 0.4,
  a warm-up from 1e-4. That timm also draws each training image's interpolation; here it is bicubic.
- R50-max and the plain R50, the baseline of both tables: they get the settings of R50-hybrid.
- R50, "+CutMix": nothing is said. Here: R50-hybrid's settings for 300 epochs, CutMix on every batch with an alpha of 1,
  as in its own paper (arXiv:1905.04899). "+DeiT": DeiT's settings, as below.
- How long "longer" is: 300 epochs here, with the steps longer in proportion.
- ViT and PiT, "+DeiT": the published command is main.py's defaults, with a rate of 1e-3 for 1024 images. Its average
  of the weights is left out, because main.py evaluates the weights themselves. An epoch of DeiT has as many images as
  the training set, three of each third of it; an epoch here (`augment.repeats`) has three of each image. 300 of theirs
  are therefore 100 of ours, and 5 of warm-up are 2.
- ViT and PiT, "vanilla": nothing is said. Here: DeiT's optimizer and schedule, and of its augmentation and
  regularisation random crops and flips alone.
- ViT and PiT, "+CutMix": CutMix on top of that, likewise.
"""

from dataclasses import replace

from plainvision.recipes.registry import add_recipe
from plainvision.training.recipe import Augment, Data, Machine, Recipe

REPEATS = 3
LONG = 300


# Top-1, per cent: of 90 epochs and of longer training; by the vanilla settings, with CutMix and with DeiT's.
RESNETS = {
    "resnet50_max": ("ResNet-50-max", 74.3, 75.5),
    "resnet50_hybrid": ("ResNet-50-hybrid", 77.1, 78.0),
}
BASELINE = ("ResNet-50", 76.2, 77.6, 78.8)
TRANSFORMERS = {
    "vit_s_max": ("ViT-S-max", 74.2, 77.3, 80.0),
    "pit_s_max": ("PiT-S-max", 75.7, 78.1, 80.8),
}


def resnet(network: str) -> Recipe:
    """Return the settings of the command that the authors published for R50-hybrid."""
    return Recipe(
        name=f"{network}_imagenet",
        model=network,
        data=Data(root="imagenet", validation_split="val"),
        augment=Augment(color_jitter=0.4),
        epochs=90,
        batch_size=1024,
        optimizer="sgd",
        lr=0.2,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="step",
        decay_epochs=30,
        warmup_epochs=3,
        warmup_lr=1e-4,
        label_smoothing=0.0,
        machine=Machine(precision="fp16"),
    )


def resnet_long(network: str) -> Recipe:
    """Return the same for longer."""
    base = resnet(network)
    return replace(base, name=f"{base.name}_long", epochs=LONG, decay_epochs=base.decay_epochs * LONG // base.epochs)


def resnet_cutmix(network: str) -> Recipe:
    """Return the same for longer, with CutMix."""
    base = resnet_long(network)
    return replace(base, name=f"{network}_cutmix", augment=replace(base.augment, cutmix=1.0))


def deit(network: str) -> Recipe:
    """Return the settings of DeiT, by the command that the authors published."""
    return Recipe(
        name=f"{network}_deit",
        model=network,
        model_options={"drop_path_rate": 0.1},
        data=Data(root="imagenet", validation_split="val"),
        augment=Augment(policy="rand-m9-mstd0.5-inc1", random_erasing=0.25, mixup=0.8, cutmix=1.0, repeats=REPEATS),
        epochs=300 // REPEATS,
        batch_size=1024,
        optimizer="adamw",
        lr=1e-3,
        min_lr=1e-5,
        optimizer_eps=1e-8,
        weight_decay=0.05,
        warmup_epochs=round(5 / REPEATS),
        warmup_lr=1e-6,
        label_smoothing=0.1,
        machine=Machine(precision="fp16"),
    )


def vanilla(network: str) -> Recipe:
    """Return the same with nothing but crops and flips."""
    return replace(
        deit(network),
        name=f"{network}_vanilla",
        model_options={},
        augment=Augment(),
        epochs=300,
        warmup_epochs=5,
        label_smoothing=0.0,
    )


def cutmix(network: str) -> Recipe:
    """Return the vanilla settings with CutMix."""
    return replace(vanilla(network), name=f"{network}_cutmix", augment=Augment(cutmix=1.0))


_SOURCE = "the official model page of arXiv:2202.02777"

for _network, (_words, _top1, _longer) in RESNETS.items():
    _it = f"{_words} on ImageNet-1k"
    add_recipe(f"{_it}, 90 epochs. Expect {_top1:.1f} % top-1 ({_SOURCE}).", resnet, _network)
    _unsaid = f"{_SOURCE}, where it does not say how long"
    add_recipe(f"{_it}, {LONG} epochs. Expect {_longer:.1f} % top-1 ({_unsaid}).", resnet_long, _network)
_baseline, _plain, *_better = BASELINE
add_recipe(f"{_baseline} on ImageNet-1k, 90 epochs. Expect {_plain:.1f} % top-1 ({_SOURCE}).", resnet, "resnet50")
for (_build, _how), _top1 in zip(((resnet_cutmix, "with CutMix"), (deit, "by DeiT's settings")), _better, strict=True):
    _unsaid = f"{_SOURCE}, which does not say by which settings"
    add_recipe(f"{_baseline} on ImageNet-1k, {_how}. Expect {_top1:.1f} % top-1 ({_unsaid}).", _build, "resnet50")
_HOW = {vanilla: "by the vanilla settings", cutmix: "with CutMix", deit: "by DeiT's settings"}
for _network, (_words, *_figures) in TRANSFORMERS.items():
    for (_build, _how), _top1 in zip(_HOW.items(), _figures, strict=True):
        add_recipe(f"{_words} on ImageNet-1k, {_how}. Expect {_top1:.1f} % top-1 ({_SOURCE}).", _build, _network)
