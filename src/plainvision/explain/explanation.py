"""A network's answer for an image, with maps of where it looks."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from plainvision.confidences import confidences_of
from plainvision.explain.attention import attention_kind, attention_maps
from plainvision.explain.deletion import Deletion
from plainvision.explain.grad_cam import gradcam, last_spatial_layer
from plainvision.inspection.checks import check_images, check_logits, class_indices
from plainvision.inspection.eval_mode import eval_mode

Method = Literal["attention", "gradcam"]
# A map of so few places across says nothing of where.
_FEW = 2


@dataclass(frozen=True)
class Explanation:
    """A network's answer for one image, and its maps."""

    picture: Tensor
    """(C, H, W) in [0, 1]: the image as the network saw it; C is 1 or 3."""
    maps: Tensor
    """(n, h, w), at least 0: one for each class, or a single one for all."""
    classes: tuple[str, ...]
    """Names of the classes that are explained, the likeliest first unless they were asked for."""
    confidences: tuple[float, ...]
    """The softmax probability of each of them; the sigmoid where an image gets a set of labels."""
    method: Method
    """Where the maps come from."""
    indices: tuple[int, ...] = ()
    """Which classes they are, in the order of the logits."""
    layer: str | None = None
    """The layer that Grad-CAM looked at."""
    deletions: tuple[Deletion, ...] = ()
    """How far each map is to be trusted, where `deletion` was asked; of a single map, for the first class."""

    @property
    def doubt(self) -> str:
        """A sentence where the maps have too few places to say where; empty otherwise."""
        height, width = self.maps.shape[1:]
        if min(height, width) > _FEW:
            return ""
        where = f"Grad-CAM at the layer {self.layer}" if self.layer else "The map"
        return (
            f"{where} has only {height} x {width} places: images of {self.picture.shape[1]} x {self.picture.shape[2]} "
            f"pixels are too small for it. Give larger ones{', or an earlier layer' if self.layer else ''}."
        )

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.1%}" for name, value in zip(self.classes, self.confidences, strict=True))


def explain_image(
    model: nn.Module,
    image: Tensor,
    picture: Tensor,
    *,
    names: Sequence[str] | None = None,
    top: int = 3,
    classes: Sequence[int] | None = None,
    method: Method | None = None,
    layer: str | None = None,
    temperature: float = 1.0,
    threshold: float | None = None,
) -> Explanation:
    """Return the answer of ``model`` for ``image`` (C, H, W), and its maps for the ``top`` classes.

    Args:
        model: the network, left in the mode that it was in.
        image: prepared as in its training.
        picture: the same image to be shown, (C, H, W) in [0, 1].
        names: of the classes, in the order of the logits; None is `class_names`.
        top: how many of the likeliest classes to explain.
        classes: the classes to explain instead.
        method: "attention" or "gradcam"; None is attention where the network has it.
        layer: the name of the layer of Grad-CAM; None is `last_spatial_layer`.
        temperature: divides the logits, for calibrated confidences.
        threshold: of a network that gives an image a set of labels, from which confidence on; None is one class.

    Raises:
        ValueError: the network has no such maps, class or layer; or the names are not as many as its classes.
        ImportError: Grad-CAM is asked for, and captum is not installed.
    """
    batch = image[None]
    check_images(batch)
    if top < 1:
        raise ValueError(f"top={top} leaves no class to explain. Give 1 or more.")
    if layer is not None and method == "attention":
        raise ValueError(f"layer={layer!r} goes with method='gradcam': attention has a layer of its own.")
    if method is None:
        method = "gradcam" if layer is not None or attention_kind(model) is None else "attention"
    with eval_mode(model), torch.no_grad():
        logits = check_logits(model(batch), model)[0].float()
        confidences = confidences_of(logits, threshold, temperature).cpu()
    names = class_names(len(confidences)) if names is None else names
    if len(names) != len(confidences):
        raise ValueError(
            f"there are {len(names)} names for {len(confidences)} classes of {type(model).__name__}. Give one for each "
            "logit, in their order."
        )
    likeliest = confidences.topk(min(top, len(confidences))).indices
    chosen = likeliest.tolist() if classes is None else class_indices(classes, len(confidences)).tolist()
    looked_at = None
    if method == "gradcam":
        looked_at = layer or last_spatial_layer(model, batch)
        maps = gradcam(model, batch, chosen, looked_at)[0]
    elif classes is None and attention_kind(model) == "single":
        maps = attention_maps(model, batch)
    else:
        maps = attention_maps(model, batch, chosen)[0]
    return Explanation(
        picture.cpu(),
        maps.float().cpu(),
        tuple(names[index] for index in chosen),
        tuple(confidences[chosen].tolist()),
        method,
        tuple(chosen),
        looked_at,
    )


def class_names(count: int) -> tuple[str, ...]:
    """Return ImageNet's names for 1000 classes, the shortest that tell them apart; "class 0", ... for others."""
    if count != 1000:
        return tuple(f"class {index}" for index in range(count))
    from timm.data import ImageNetInfo

    described = ImageNetInfo().label_descriptions()  # for instance "loggerhead, loggerhead turtle, Caretta caretta"
    first = [text.split(",")[0] for text in described]
    often = Counter(first)
    return tuple(short if often[short] == 1 else text for short, text in zip(first, described, strict=True))


def class_index(word: str, names: Sequence[str]) -> int:
    """Return which class ``word`` is: its name, however it is capitalised, or its number.

    Raises:
        ValueError: no class is called so, or several are.
    """
    found = [index for index, name in enumerate(names) if name.lower() == word.lower()]
    if len(found) > 1:
        raise ValueError(f"{len(found)} classes are called {word!r}: {', '.join(map(str, found))}. Give the number.")
    if found or word.isdecimal():
        return found[0] if found else int(word)
    close = difflib.get_close_matches(word, names, n=3)
    few = ", ".join(names[:8]) + (", ..." if len(names) > 8 else ".")
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {few}"
    raise ValueError(f"unknown class {word!r}. {hint}")
