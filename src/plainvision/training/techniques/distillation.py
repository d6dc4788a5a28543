"""Learn from a trained network's answers beside the labels (Hinton et al. 2015, arXiv:1503.02531)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from plainvision.data.settings import RECORDED, Data
from plainvision.fields import ABOVE_ZERO
from plainvision.training.techniques.technique import Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from plainvision.training.network_words import Network
    from plainvision.training.recipe import Recipe
    from plainvision.training.state import State


@dataclass(frozen=True)
class Distillation(Technique):
    """Add the divergence from a teacher's softened answers to the loss.

    The loss is (1 - w) L + w T^2 KL(teacher / T, student / T). The teacher sees the very images of the step, mixed and
    augmented, in its own size and normalisation; it is in eval mode, and no image's class weight counts in its part.

    Raises:
        ValueError: when the run starts: there is no such teacher, its classes are others, or its weights are not those
            of ``fingerprint``.
    """

    files = ("teacher", "checkpoint")

    teacher: str
    """The folder of a run, a weights file, or NAME:option=value,..., whose weights are in the checkpoint."""
    checkpoint: str | None = None
    """Path or URL of the weights of a teacher by name."""
    temperature: Annotated[float, ABOVE_ZERO, 1e3] = 2.0
    """T, by which both logits are divided."""
    weight: Annotated[float, 0.0, 1.0] = 0.5
    """w, the share of the teacher in the loss; the labels have the rest."""
    fingerprint: str | None = None
    """Hash of the teacher's weights, which a run records: it is not resumed with others."""

    def check(self, recipe: "Recipe") -> None:
        from plainvision.training.classification import Classification

        if recipe.task.command:  # whose answers are no logits of classes
            raise ValueError(
                f"Distillation compares the logits of two classifiers, and the recipe {recipe.name!r} is for "
                f"`plainvision {recipe.task.command}`. Drop it."
            )
        if not isinstance(recipe.task, Classification):
            raise ValueError(
                f"Distillation learns from what a teacher thinks of the one class of an image, and {recipe.task} asks "
                "for a set of labels. Drop it."
            )
        if sum(isinstance(item, Distillation) for item in recipe.techniques) > 1:
            raise ValueError("two Distillation in one recipe: a run has one teacher. Drop one of them.")

    def pinned(self) -> "Distillation":
        return replace(self, fingerprint=self._fingerprint_of(self._load().model))

    def start(self, state: "State") -> None:
        found = self._load()
        self._fingerprint_of(found.model)
        names, kinds = found.classes, int(getattr(found.model, "num_classes", len(state.classes)))
        if names is not None and names != state.classes:
            pairs = zip(names, state.classes, strict=False)
            differ = next((f"{a!r} where the data have {b!r}" for a, b in pairs if a != b), "more or fewer")
            raise ValueError(
                f"{self._said} has {len(names)} classes and the data {len(state.classes)}, in order: it has {differ}. "
                "The logits would not mean the same. Give a teacher that was trained on these classes, or probe one "
                "on them: plainvision probe NAME --save FILE."
            )
        if names is None and kinds != len(state.classes):
            raise ValueError(
                f"{self._said} has {kinds} classes and the data {len(state.classes)}. Give a teacher that was trained "
                "on these classes, or probe one on them: plainvision probe NAME --save FILE."
            )
        device = next(state.model.parameters()).device
        teacher = found.model.to(device).eval().requires_grad_(False)
        state.notes[Distillation] = _Teacher(teacher, state.data, found.data)

    def loss(self, state: "State", part: Any, answer: Any, loss: "Tensor") -> "Tensor":
        import torch
        import torch.nn.functional as F

        with torch.no_grad():
            wanted = state.notes[Distillation](part[0])
        soft, softened = ((one.float() / self.temperature).log_softmax(1) for one in (answer, wanted))
        divergence = F.kl_div(soft, softened, log_target=True, reduction="batchmean")
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * divergence

    @property
    def _said(self) -> str:
        return f"the teacher {self.teacher}" + (f" with {self.checkpoint}" if self.checkpoint else "")

    def _load(self) -> "Network":
        from plainvision.inspection.foreign import Foreign
        from plainvision.training.network_words import network_words

        for name in self.files:
            value = getattr(self, name) or ""
            if value.startswith(RECORDED):
                raise ValueError(
                    f"the recipe's file records {value.removeprefix(RECORDED)!r} as the {name} of Distillation, and a "
                    f"file opens nothing by itself. Give it with --techniques.N.{name}, N being its place."
                )
        try:
            found = network_words(self.teacher).load(self.checkpoint)
        except (ValueError, OSError) as error:
            raise type(error)(f"cannot load {self._said}: {error}") from error
        if isinstance(found.model, Foreign):
            raise ValueError(
                f"{self._said} is a deployed folder, whose runtime answers on the CPU alone. Give the run or the "
                "weights file that it was made from."
            )
        return found

    def _fingerprint_of(self, model: "nn.Module") -> str:
        from plainvision.inspection.fingerprint import weights_fingerprint

        found = weights_fingerprint(model)
        if self.fingerprint not in (None, found):
            raise ValueError(
                f"{self._said} has other weights than the run's teacher had: their hash is {found[:12]}..., and "
                f"{str(self.fingerprint)[:12]}... is recorded. Give the run's own teacher, or start anew with another "
                "--out and the technique's fingerprint None."
            )
        return found


class _Teacher:
    """Answers for images (B, C, H, W) that were prepared for the student."""

    def __init__(self, model: "nn.Module", student: Data, own: Data) -> None:
        import torch

        if student.channels > own.channels:
            raise ValueError(
                f"the teacher takes grey images, and data.channels={student.channels} gives it coloured ones. Give a "
                "teacher for coloured images, or train with data.channels=1."
            )
        device = next(model.parameters()).device
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (student.mean, student.std))
        centre, spread = (torch.tensor(values, device=device)[:, None, None] for values in (own.mean, own.std))
        self._scale, self._shift = std / spread, (mean - centre) / spread  # a grey image becomes three equal channels
        self._model, self._side, self._mode = model, own.image_size, own.interpolation

    def __call__(self, images: "Tensor") -> "Tensor":
        import torch.nn.functional as F

        seen = images * self._scale + self._shift
        if seen.shape[-1] != self._side:
            size = (self._side, self._side)
            seen = F.interpolate(seen, size, mode=self._mode, align_corners=False, antialias=True)
        return self._model(seen)
