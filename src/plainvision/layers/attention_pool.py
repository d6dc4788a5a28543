"""Attention pooling: the learned aggregation in the place of a network's average pooling (arXiv:2112.13692).

Shapes   B batch, C channels, H height, W width, N = H W patches, T class tokens, K classes
"""

import abc
import copy

import torch
from torch import Tensor, nn

from plainvision.layers.fusable import Fusable


class Pooling(nn.Module, abc.ABC):
    """Attention pooling in training or deployed form: features (B, C, H, W) -> (B, C), or (B, K, C) per class."""

    @abc.abstractmethod
    def attend(self, x: Tensor) -> Tensor:
        """Return each patch's share in the pooling of features (B, C, H, W): (B, T, H, W), each map of sum 1.

        With several heads, their mean. A single class token also attends to itself; that share is no place in the
        image, and the patches' shares are relative to what it leaves.
        """


class AttentionPool(Fusable, Pooling):
    """A class token that queries the patches once, and a feed-forward network (arXiv:2112.13692, section 3.1).

    (B, C, H, W) -> (B, C), or (B, K, C) with one class token for each of K classes. As in the official code, a single
    token is among the patches that it attends to, and the tokens of classes are not.

    Args:
        channels: C.
        classes: K, for one class token per class; None is a single one.
        heads: parts of the channels that attend apart from each other; the paper uses one.
        layer_scale: what the two residual branches are multiplied by at the start, per channel.

    Raises:
        ValueError: no classes, or channels that the heads do not divide.
    """

    def __init__(self, channels: int, *, classes: int | None = None, heads: int = 1, layer_scale: float = 1e-4) -> None:
        super().__init__()
        if classes is not None and classes < 1:
            raise ValueError(f"classes={classes}: one class token per class needs a class. None is a single token.")
        if heads < 1 or channels % heads:
            raise ValueError(f"heads={heads} does not divide {channels} channels. Give a divisor; the paper uses 1.")
        self.classes = classes
        self.heads = heads
        self.token = nn.Parameter(torch.zeros(classes or 1, channels))
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.q = nn.Linear(channels, channels)
        self.k = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)
        self.scale1 = nn.Parameter(torch.full((channels,), layer_scale))
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels))
        self.scale2 = nn.Parameter(torch.full((channels,), layer_scale))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.reset_parameters()

    def set_classes(self, classes: int) -> None:
        """Give each of ``classes`` classes a token of its own, which starts as the mean of the present ones."""
        self.classes = classes
        self.token = nn.Parameter(self.token.detach().mean(0, keepdim=True).repeat(classes, 1))

    def reset_parameters(self) -> None:
        """Draw the weights anew, as the official code does: truncated normal, 0.02; biases zero."""
        nn.init.trunc_normal_(self.token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        keys = self._keys(x)
        attention = self._scores(keys).softmax(-1)  # (B, heads, T, N), one more than N with a single token
        pooled = attention @ _split(self.v(keys), self.heads)
        pooled = self.proj(pooled.transpose(1, 2).flatten(2))
        token = self.token + self.scale1 * pooled
        token = token + self.scale2 * self.mlp(self.norm2(token))
        return self.norm(token) if self.classes else self.norm(token)[:, 0]

    def attend(self, x: Tensor) -> Tensor:
        scores = self._scores(self._keys(x))
        return _as_maps(scores if self.classes else scores[..., 1:], x)

    def fuse(self) -> nn.Module:
        """Return the deployed form, in which no class token needs a linear layer of its own.

        The query does not depend on the image, so that the keys' layer folds into it, and since shares sum to 1, the
        values' layer folds into the one behind; both LayerScales fold too.
        """
        return DeployedAttentionPool(self)

    def _keys(self, x: Tensor) -> Tensor:
        """Return what is attended to, normalised: (B, N, C), or (B, 1 + N, C) with the single token in front."""
        patches = x.flatten(2).transpose(1, 2)
        if self.classes is None:
            patches = torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1), patches], dim=1)
        return self.norm1(patches)

    def _scores(self, keys: Tensor) -> Tensor:
        query = _split(self.q(self.norm1(self.token))[None], self.heads)  # the same for every image: computed once
        query = query * query.shape[-1] ** -0.5
        return query @ _split(self.k(keys), self.heads).transpose(2, 3)


class ClassTokenLogits(nn.Module):
    """The classifier behind one class token per class: (B, K, C) -> (B, K), logit k from token k alone.

    The official code loops over K linear layers of one output; here they are the rows of one weight.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, channels))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).sum(-1) + self.bias


class DeployedAttentionPool(Pooling):
    """The folded form of a trained `AttentionPool`: (B, C, H, W) -> (B, C), or (B, K, C) per class."""

    def __init__(self, trained: AttentionPool) -> None:
        super().__init__()
        tokens, channels = trained.token.shape
        self.classes = trained.classes
        self.heads = trained.heads
        self.norm1 = copy.deepcopy(trained.norm1)
        self.norm2 = copy.deepcopy(trained.norm2)
        self.norm = copy.deepcopy(trained.norm)
        place = {"device": trained.token.device, "dtype": trained.token.dtype}
        self.query = nn.Parameter(torch.empty(self.heads * tokens, channels, **place))
        self.token = nn.Parameter(torch.empty(tokens, channels, **place))
        self.values = nn.Linear(self.heads * channels, channels, **place)
        self.mlp = copy.deepcopy(trained.mlp)
        with torch.no_grad():
            self._fold(copy.deepcopy(trained).double())

    def forward(self, x: Tensor) -> Tensor:
        keys = self._keys(x)
        attention = self._scores(keys).softmax(-1)
        pooled = (attention.flatten(1, 2) @ keys).unflatten(1, (self.heads, -1))
        token = self.token + self.values(pooled.transpose(1, 2).flatten(2))
        token = token + self.mlp(self.norm2(token))
        return self.norm(token) if self.classes else self.norm(token)[:, 0]

    def attend(self, x: Tensor) -> Tensor:
        scores = self._scores(self._keys(x))
        return _as_maps(scores if self.classes else scores[..., 1:], x)

    def _keys(self, x: Tensor) -> Tensor:
        patches = x.flatten(2).transpose(1, 2)
        if self.classes is None:
            patches = torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1), patches], dim=1)
        return self.norm1(patches)

    def _scores(self, keys: Tensor) -> Tensor:
        return (self.query @ keys.transpose(1, 2)).unflatten(1, (self.heads, -1))

    def _fold(self, trained: AttentionPool) -> None:
        """Fold in float64. The keys' bias adds the same to every score of a token, which softmax does not see."""
        channels = trained.token.shape[1]
        part = channels // self.heads
        query = trained.q(trained.norm1(trained.token)) * part**-0.5
        queries = [
            query[:, head] @ trained.k.weight[head] for head in _parts(channels, self.heads)
        ]  # of each head: (T, C)
        values = [trained.proj.weight[:, head] @ trained.v.weight[head] for head in _parts(channels, self.heads)]
        self.query.copy_(torch.cat(queries))
        self.token.copy_(trained.token)
        self.values.weight.copy_(trained.scale1[:, None] * torch.cat(values, dim=1))
        self.values.bias.copy_(trained.scale1 * (trained.proj(trained.v.bias)))
        last, scaled = trained.mlp[2], self.mlp[2]
        scaled.weight.copy_(trained.scale2[:, None] * last.weight)
        scaled.bias.copy_(trained.scale2 * last.bias)


def _split(x: Tensor, heads: int) -> Tensor:
    """Return the heads' parts apart: (B, N, C) -> (B, heads, N, C / heads)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _parts(channels: int, heads: int) -> list[slice]:
    part = channels // heads
    return [slice(head * part, (head + 1) * part) for head in range(heads)]


def _as_maps(scores: Tensor, x: Tensor) -> Tensor:
    """Return the shares of patches by their scores (B, heads, T, N): (B, T, H, W)."""
    return scores.softmax(-1).mean(1).unflatten(2, x.shape[2:])
