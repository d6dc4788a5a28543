"""What a layer study consists of: its networks, and the recipe that each is trained by. No torch here."""

import difflib
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from plainvision.training.recipe import Augment, Data, Machine, Recipe
from plainvision.training.techniques import SpatialOps

Bottleneck = Literal["resnet", "inverted"]
Op = Literal["conv", "depthwise", "max", "avg", "identity"]

OPS: tuple[Op, ...] = get_args(Op)
_WITHOUT_WEIGHTS = ("max", "avg", "identity")


class _Original(NamedTuple):
    """A small network of bottlenecks, as it is."""

    model: str
    options: dict[str, Any]
    op: Op
    stages: tuple[str, ...]  # names of its layers


_ORIGINALS: dict[Bottleneck, _Original] = {
    # ResNet-26, two bottlenecks a stage, a quarter as wide: 0.9 M parameters.
    "resnet": _Original(
        "resnet26", {"channels": [16, 32, 64, 128]}, "conv", tuple(f"layer{number}" for number in range(1, 5))
    ),
    # MobileNetV2, half as wide, with the stages of its paper's Table 2: 0.7 M parameters.
    "inverted": _Original("mobilenetv2_050", {}, "depthwise", tuple(f"blocks.{number}" for number in range(7))),
}


@dataclass(frozen=True)
class StudyNetwork:
    """One network of a study."""

    op: Op
    """The spatial operation."""
    stage: int | None
    """The stage that has it, from 1; None for the network as it is, or of a single bottleneck."""
    width: int | None = None
    """Channels of a network of a single bottleneck."""

    @property
    def name(self) -> str:
        """What it is called in names of runs."""
        if self.width is not None:
            return f"width{self.width}_{self.op}"
        return self.op if self.stage is None else f"stage{self.stage}_{self.op}"


@dataclass(frozen=True)
class LayerStudy:
    """Everything that decides the result of a layer study. The defaults are ours, not the paper's.

    Raises:
        ValueError: a value that cannot work.
    """

    # At 32 pixels the last of four stages would have one place: nothing to mix.
    data: Data = field(default_factory=lambda: Data(image_size=64, crop_ratio=1.0))
    """Where the images come from."""
    bottleneck: Bottleneck = "resnet"
    """ResNet's bottleneck, in a narrow ResNet-26, or the inverted one, in MobileNetV2."""
    ops: tuple[Op, ...] = OPS
    """The operations to train with."""
    stages: tuple[int, ...] = ()
    """The stages to replace operations in, one at a time, from 1; none given means all: 4, inverted 7."""
    widths: tuple[int, ...] = ()
    """Instead of stages: in networks of a single bottleneck, with so many channels each."""
    drop_norm_act: bool = False
    """Drop the norm and the activation behind max, avg and identity, as in the paper's networks."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Trains each network once per seed."""
    augment: Augment = field(default_factory=lambda: Augment(scale=(0.5, 1.0)))
    """What training does to an image."""
    epochs: int = 20
    """Passes over the training images."""
    batch_size: int = 128
    """Images per step."""
    lr: float = 0.05
    """Peak learning rate of SGD with momentum; falls to zero along a cosine."""
    weight_decay: float = 5e-4
    """Weight decay."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    machine: Machine = field(default_factory=Machine)
    """How training uses the hardware. The memory layout is that of timing too."""

    def __post_init__(self) -> None:
        if self.bottleneck not in _ORIGINALS:
            raise ValueError(f"bottleneck={self.bottleneck!r} must be {' or '.join(_ORIGINALS)}.")
        if unknown := [op for op in self.ops if op not in OPS]:
            close = difflib.get_close_matches(unknown[0], OPS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(OPS)}."
            raise ValueError(f"unknown spatial operation {unknown[0]!r}. {hint}")
        count = len(self.original.stages)
        if outside := [stage for stage in self.stages if not 1 <= stage <= count]:
            raise ValueError(
                f"stages={self.stages}: there is no stage {outside[0]}. The {self.bottleneck} network has {count}; "
                f"give numbers from 1 to {count}, or none for all."
            )
        if self.stages and self.widths:
            raise ValueError(
                f"stages={self.stages} are of a deep network, and widths={self.widths} of networks of a single "
                "bottleneck. Give one of them."
            )
        if wrong := [width for width in self.widths if not 4 <= width <= 4096 or width % 4]:
            raise ValueError(f"widths={self.widths}: give multiples of 4 from 4 to 4096, and not {wrong[0]}.")
        for name in ("ops", "stages", "widths", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={values} names something twice. Give each once.")
            if not values and name in ("ops", "seeds"):
                raise ValueError(f"{name} is empty, and there is nothing to train. Give one or more.")
        self.recipes()  # which raises what is wrong with the rest

    @property
    def original(self) -> _Original:
        """The network whose operations are replaced."""
        return _ORIGINALS[self.bottleneck]

    def networks(self) -> list[StudyNetwork]:
        """Return the networks to train: the one as it is, if its operation is among ``ops``, then stage by stage.

        Of a single bottleneck, those of each width.
        """
        if self.widths:
            return [StudyNetwork(op, None, width) for width in self.widths for op in self.ops]
        own = self.original.op
        stages = self.stages or range(1, len(self.original.stages) + 1)
        replaced = [StudyNetwork(op, stage) for stage in stages for op in self.ops if op != own]
        return [StudyNetwork(own, None), *replaced] if own in self.ops else replaced

    def recipe(self, network: StudyNetwork, seed: int) -> Recipe:
        """Return the recipe of one run."""
        model, options, where = self.original.model, self.original.options, None
        if network.width is not None:
            model, options = "single_bottleneck", {"kind": self.bottleneck, "channels": network.width}
        elif network.stage is not None:
            where = self.original.stages[network.stage - 1]
        techniques: tuple[SpatialOps, ...] = ()
        if network.stage is not None or network.op != self.original.op:
            drop = self.drop_norm_act and network.op in _WITHOUT_WEIGHTS
            techniques = (SpatialOps(network.op, where=where, drop_norm_act=drop, image_size=self.data.image_size),)
        return momentum_recipe(
            self,
            name=f"{self.bottleneck}_{network.name}_seed{seed}",
            model=model,
            model_options={**options, "in_chans": self.data.channels},
            data=self.data,
            techniques=techniques,
            machine=self.machine,
            seed=seed,
        )

    def recipes(self) -> list[tuple[StudyNetwork, Recipe]]:
        """Return the runs, seed by seed, so that what is there after a break can be compared."""
        return [(network, self.recipe(network, seed)) for seed in self.seeds for network in self.networks()]


def momentum_recipe(budget: Any, **others: Any) -> Recipe:
    """Return a recipe of SGD along a cosine to zero, with what ``budget`` says of it and with ``others``."""
    said = ("augment", "epochs", "batch_size", "lr", "weight_decay", "label_smoothing")
    fields = {name: getattr(budget, name) for name in said} | others
    return Recipe(optimizer="momentum", min_lr=0.0, warmup_epochs=0, **fields)  # timm's SGD without Nesterov
