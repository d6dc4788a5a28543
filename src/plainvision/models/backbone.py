"""timm's surface, once: a family gives its layers in order and its head, and gets the rest.

Shapes   B batch, C channels, H height, W width, K classes
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from timm.models._features import feature_take_indices  # timm's own, so that indices mean what its users expect
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plainvision.models.loading import OfficialLayout


class Stage(nn.Sequential):
    """Blocks in a row, each recomputed in the backward pass where gradient checkpointing is on."""

    grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = run(block, x, self.grad_checkpointing and self.training)
        return x


class PooledClassifier(nn.Module):
    """Global pooling, dropout and a linear layer: features (B, C, H, W) -> logits (B, K).

    ``classes`` 0 leaves the linear layer out; ``pooling`` is "avg", "max", or "" for none, which needs ``classes`` 0.
    """

    def __init__(self, channels: int, classes: int, *, pooling: str = "avg", drop_rate: float = 0.0) -> None:
        super().__init__()
        if classes and not pooling:
            raise ValueError(
                "a classifier needs pooled features, and global_pool='' pools none. Give num_classes=0, or a pooling."
            )
        poolings = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}
        if pooling not in (*poolings, ""):
            raise ValueError(f"unknown global_pool {pooling!r}: there are 'avg', 'max' and '' for none.")
        self.pool = nn.Sequential(poolings[pooling](1), nn.Flatten()) if pooling else nn.Identity()
        self.drop = nn.Dropout(drop_rate)
        self.linear: nn.Module = nn.Linear(channels, classes) if classes else nn.Identity()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.drop(self.pool(x))
        return x if pre_logits else self.linear(x)


class Groups(NamedTuple):
    """Patterns of parameters' names, as timm's `group_matcher` has them; what none matches goes with the classifier."""

    stem: str
    blocks: Any
    coarse: Any = None


class Backbone(OfficialLayout):
    """A network that is a row of layers and a head: images (B, in_chans, H, W) -> logits (B, K).

    A family sets the attributes below, builds its layers in `__init__`, and ends it with `reset_classifier`. All take
    these options:

    Args:
        num_classes: K; 0 returns the pooled features.
        in_chans: channels of the images.
        global_pool: the head's pooling: "avg", "max", or "" for none, without classes.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
    """

    row: Sequence[str]
    """Names of the layers that turn `embed`'s output into features, in order; ``stages.*`` is each of the stages."""

    feature_info: list[dict[str, Any]]
    """Channels (`num_chs`), stride (`reduction`) and name (`module`) of each layer whose output is a feature."""
    num_features: int
    """Channels of the features."""
    head_hidden_size: int
    """Channels in front of the classifier."""
    num_classes: int
    pretrained_cfg: dict[str, Any]
    """timm's configuration, which names the first and the last layer."""
    head: Any
    global_pool: str
    norm_name: ClassVar[str | None] = None
    """Name of the layer that normalises the features, the last of ``row``."""
    groups: ClassVar[Groups]
    default_pool: ClassVar[str] = "avg"
    """The head's pooling where nothing else is asked for."""
    undecayed: ClassVar[frozenset[str]] = frozenset()
    """Parameters that weight decay spares, beside biases and norms."""
    grad_checkpointing = False

    def __init__(self, in_chans: int, drop_rate: float) -> None:
        super().__init__()
        self.in_chans, self.drop_rate = in_chans, drop_rate

    def layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the layers of ``row``, each with its name in the network."""
        for name in self.row:
            layer: Any = self.get_submodule(name.removesuffix(".*"))
            if name.endswith(".*"):
                yield from ((name.replace("*", str(i)), part) for i, part in enumerate(layer))
            else:
                yield name, layer

    def new_head(self, num_classes: int, global_pool: str) -> dict[str, nn.Module]:
        """Return new layers for the head, by their names in the network."""
        return {"head": PooledClassifier(self.num_features, num_classes, pooling=global_pool, drop_rate=self.drop_rate)}

    def embed(self, x: Tensor) -> Tensor:
        """Return what the first layer is given for images (B, in_chans, H, W)."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features (B, C, H', W') of images (B, in_chans, H, W)."""
        x = self.embed(x)
        for _, layer in self.layers():
            x = self._run(layer, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the pooled features (B, C) in front of the classifier."""
        return self.head(x, pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last features and those at ``indices`` of ``feature_info``, as timm does.

        Args:
            x: images (B, in_chans, H, W).
            indices: which features; a number means the last so many, None all.
            norm: normalise those that have the channels of the final norm.
            stop_early: leave out the layers behind the last chosen feature; those behind the last of all are run.
            output_fmt: only "NCHW"; a ValueError otherwise.
            intermediates_only: return the chosen features alone.
        """
        if output_fmt != "NCHW":
            raise ValueError(
                f"output_fmt={output_fmt!r}: the features of this network are NCHW. Permute them yourself."
            )
        take, last = feature_take_indices(len(self.feature_info), indices)
        taps = self._taps()
        x, found = self.embed(x), dict[int, Tensor]()
        for position, (_, layer) in enumerate(self.layers()):
            if stop_early and last + 1 < len(taps) and position > taps[last]:
                break
            x = self._run(layer, x)
            found |= {index: x for index in take if taps[index] == position}
        if norm and self.norm_name is not None:
            layer = self.get_submodule(self.norm_name)
            found = {index: layer(x) if self._fits_norm(index) else x for index, x in found.items()}
        intermediates = [found[index] for index in take]
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the features at ``indices`` do not need, as timm does, and return them.

        What follows the last feature of all goes with the head, the final norm also with ``prune_norm``.
        """
        take, last = feature_take_indices(len(self.feature_info), indices)
        end, whole = self._taps()[last], last + 1 == len(self.feature_info)
        for position, (name, _) in enumerate(list(self.layers())):
            keep = not prune_norm and self._fits_norm(last) if name == self.norm_name else whole and not prune_head
            if position > end and not keep:
                self.set_submodule(name, nn.Identity())
        if prune_head:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """Return the classifier: an identity without classes."""
        return self.head.linear if isinstance(self.head, PooledClassifier) else self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, on the network's device, and the pooling where another is named.

        Classes behind no pooling bring the family's own back, unless "" is asked for.

        Raises:
            ValueError: the pooling is unknown, or missing in front of classes.
        """
        pooling = global_pool
        if pooling is None:
            pooling = self.global_pool or (self.default_pool if num_classes else "")
        like = next(self.parameters())
        for name, layer in self.new_head(num_classes, pooling).items():
            setattr(self, name, layer.to(like).train(self.training))
        self.num_classes, self.global_pool = num_classes, pooling

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each layer, or each block of a stage, in the backward pass instead of keeping its activations."""
        for module in self.modules():
            if isinstance(module, Backbone | Stage):
                module.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": self.groups.stem, "blocks": (coarse and self.groups.coarse) or self.groups.blocks}

    def no_weight_decay(self) -> set[str]:
        return set(self.undecayed)

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)  # the official keys are ours

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        # A stage checkpoints its own blocks.
        again = self.grad_checkpointing and self.training and not any(isinstance(m, Stage) for m in layer.modules())
        return run(layer, x, again)

    def _taps(self) -> list[int]:
        """Return the position in `layers` of each entry of ``feature_info``."""
        positions = {name: position for position, (name, _) in enumerate(self.layers())}
        return [positions[info["module"]] for info in self.feature_info]

    def _fits_norm(self, index: int) -> bool:
        return self.feature_info[index]["num_chs"] == self.feature_info[-1]["num_chs"]


def rename(state: Mapping[str, Tensor], rules: Sequence[tuple[str, Any]]) -> dict[str, Tensor]:
    """Return ``state`` with each rule, a pattern and what replaces it, applied to every key in turn."""
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def run(layer: nn.Module, x: Tensor, again: bool) -> Tensor:
    """Return ``layer(x)``; ``again`` recomputes it in the backward pass."""
    return checkpoint(layer, x, use_reentrant=False) if again else layer(x)
