"""A recipe for images and weights that nobody named one for, with the reasons: nothing is guessed in silence.

With trained weights it is `finetune`. Without, the size and the number of the images choose a network and the recipe
whose settings it takes. The number of images says how long. What a rule sets, a reason tells.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from plainvision.data.settings import Augment, Data
from plainvision.recipes.registry import get_recipe, recipe
from plainvision.training.recipe import PRETRAINED, Machine, Recipe
from plainvision.training.techniques import EMA, DeepTraining, FrozenBackbone, FrozenStatistics, Technique

if TYPE_CHECKING:
    from plainvision.data.glance import Glance
    from plainvision.training.starting import KnownWeights

# As many photographs or more are trained on as ImageNet is.
_MANY = 50_000
# Images whose shorter side is no longer are as those of CIFAR.
_TINY = 64
_LARGEST_SIDE = 224


@dataclass(frozen=True)
class Choice:
    """A recipe, and why it is as it is."""

    recipe: Recipe
    reasons: tuple[str, ...]


@recipe
def finetune() -> Recipe:
    """Trained weights on other classes: a new classifier, alone at first, then all layers.

    Below the classifier each layer learns at a lower rate than the one above. Expect more than a linear probe of the
    same weights scores: on clothing at 64 pixels, shortened, 3.7 ± 2.7 points, and from the saved probe 6.1 ± 3.6
    (results/transfer_clothing.json).
    """
    return Recipe(
        name="finetune",
        model="tf_efficientnet_lite0",
        start_from=PRETRAINED,
        new_classifier=True,
        data=Data(root="images", mean=(0.5,) * 3, std=(0.5,) * 3),  # of that network
        augment=Augment(scale=(0.35, 1.0)),
        epochs=8,
        batch_size=32,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        layer_decay=0.8,
        warmup_epochs=1,
        techniques=(FrozenBackbone(epochs=2), FrozenStatistics()),
    )


def choose(seen: "Glance", model: str | None, weights: "KnownWeights | None") -> Choice:
    """Return a recipe for the images that were ``seen``.

    Args:
        seen: what there is to train on.
        model: the network; None takes that of the weights, or chooses one.
        weights: the weights to start from; None starts from new ones.
    """
    colour = "grey" if seen.grey else "in colour"
    found = (
        f"{seen.images} images of {len(seen.classes)} classes, {seen.rarest} of the rarest, {colour}, {seen.side} "
        f"pixels at the shorter side; validation: {seen.validation}"
    )
    choice = _from_scratch(seen, model) if weights is None else _finetuned(seen, weights)
    first, *others = choice.reasons
    first += " Images are mirrored at random; where left and right matter, --augment.flip 0."
    return Choice(choice.recipe, (found, first, *others))


def _finetuned(seen: "Glance", weights: "KnownWeights") -> Choice:
    base = get_recipe("finetune")
    epochs = _epochs(20_000, seen.images, 4, 30)
    batch = _batch_size(seen.images, base.batch_size)
    knows = weights.classes == seen.classes
    frozen = 0 if knows else epochs // 3
    alone = (FrozenBackbone(epochs=frozen),) if frozen else ()
    chosen = replace(
        base,
        model=weights.model,
        model_options=weights.options,
        techniques=(*weights.techniques, *alone, FrozenStatistics()),
        start_from=weights.source,
        new_classifier=not knows,
        data=replace(seen.data, **weights.preparation),
        epochs=epochs,
        batch_size=batch,
    )
    how = chosen.data
    classifier = (
        f"its classifier, which names these very classes; all layers learn for {epochs} epochs"
        if knows
        else f"a new classifier, which learns alone for {frozen} of {epochs} epochs"
    )
    return Choice(
        chosen,
        (
            f"recipe finetune, for there are trained weights: {weights.model} with {classifier}; images as for these "
            f"weights: {how.image_size} pixels, mean {_few(how.mean)}, std {_few(how.std)}, {how.interpolation}.",
        ),
    )


def _from_scratch(seen: "Glance", model: str | None) -> Choice:
    colours: dict[str, Any] = {}
    if seen.grey:
        colours = {"channels": 1, "mean": (seen.mean,), "std": (seen.std,)}
    if seen.side <= _TINY:
        name, size = "resnet20_cifar", 32 if seen.side <= 40 else 64
        base, why = get_recipe("vanillanet_cifar10"), "a small ResNet, for images so small"
        data = replace(seen.data, image_size=size, crop_ratio=1.0, **colours)
    elif seen.images < _MANY:
        name, size = "resnet18", min(128, seen.side // 32 * 32)
        base, why = get_recipe("resnet18_clothing"), "a small network, for so few images"
        data = replace(seen.data, image_size=size, **colours)
    else:
        name, size = "vanillanet_6", min(_LARGEST_SIDE, seen.side // 32 * 32)
        base, why = get_recipe("vanillanet_6_imagenet_official"), "as on ImageNet, for so many images"
        base = replace(base, machine=Machine())  # fp16 wants a GPU
        data = replace(seen.data, image_size=size, **colours)
        if model in (None, base.model):
            return Choice(
                replace(base, data=data),
                (f"recipe {base.name}: {name}, {why}; {base.epochs} epochs from new weights.",),
            )
    model, given = model or name, model is not None
    batch = _batch_size(seen.images, base.batch_size)
    epochs = _epochs(300_000, seen.images, 60, 300)
    # The average reaches over a tenth of the run.
    steps = max(1, seen.images // batch) * epochs
    techniques: tuple[Technique, ...] = (EMA(decay=round(max(0.0, 1 - 10 / steps), 4)),)
    if model.startswith("vanillanet_"):
        techniques = (DeepTraining(epochs=epochs // 3), *techniques)
    chosen = replace(
        base,
        name="chosen",
        model=model,
        model_options={},
        data=data,
        epochs=epochs,
        batch_size=batch,
        lr=float(f"{base.lr * (batch / base.batch_size) ** 0.5:.2g}"),
        techniques=techniques,
        machine=Machine(),
    )
    return Choice(
        chosen,
        (
            f"the settings of {base.name} for {model}{'' if given else ', ' + why}: {epochs} epochs from new weights, "
            f"{size} pixels, {batch} images a step."
            + (f" Grey images have one channel, of mean {seen.mean} and std {seen.std}." if seen.grey else ""),
            "With trained weights, --start-from FILE or --model NAME --pretrained, a run is shorter and scores higher.",
        ),
    )


def _batch_size(images: int, most: int) -> int:
    """Return a power of two that leaves twenty steps an epoch, or is eight."""
    fits = 1 << max(3, (images // 20).bit_length() - 1)
    return min(most, fits)


def _epochs(shown: int, images: int, least: int, most: int) -> int:
    """Return how many epochs show about so many images, within bounds."""
    return min(most, max(least, round(shown / images)))


def _few(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in dict.fromkeys(values))
