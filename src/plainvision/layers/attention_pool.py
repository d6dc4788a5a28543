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

    classes: int | None
    token: nn.Parameter
    norm1: nn.Module

    def attend(self, x: Tensor) -> Tensor:
        """Return each patch's share in the pooling of features (B, C, H, W): (B, T, H, W), each map of sum 1.

        With several heads, their mean. A single class token also attends to itself; its own share is left out
        and the others are divided by their sum.
        """
        shares = self._scores(self._keys(x))[..., -x.shape[2] * x.shape[3] :].softmax(-1)
        return shares.mean(1).unflatten(2, x.shape[2:])

    def _keys(self, x: Tensor) -> Tensor:
        """Return the normalised patches (B, N, C) of features (B, C, H, W), behind the single class token if any."""
        patches = x.flatten(2).transpose(1, 2)  # in the channels_last layout a view, nothing is copied
        if not self.classes:
            patches = torch.cat([self.token.to(x.dtype).expand(x.shape[0], -1, -1), patches], dim=1)
        return self.norm1(patches)

    @abc.abstractmethod
    def _scores(self, keys: Tensor) -> Tensor:
        """Return the scores (B, heads, T, N) of ``keys``, before the softmax."""


class AttentionPool(Fusable, Pooling):
    """A class token that queries the patches once, and a feed-forward network (arXiv:2112.13692, section 3.1).

    (B, C, H, W) -> (B, C), or (B, K, C) with one class token for each of K classes. As in the official code, a single
    token also attends to itself; the tokens of classes attend to the patches alone.

    Args:
        channels: C.
        classes: K, for one class token per class; None is a single one.
        heads: parts of the channels that attend apart from each other; the paper uses one.
        layer_scale: initial LayerScale of the two residual branches.

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
        # As the official code: truncated normal, 0.02; biases zero.
        nn.init.trunc_normal_(self.token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def set_classes(self, classes: int) -> None:
        """Give each of ``classes`` classes a token of its own, which starts as the mean of the present ones."""
        self.classes = classes
        token = self.token.detach().mean(0, keepdim=True).repeat(classes, 1)
        self.token = nn.Parameter(token, requires_grad=self.token.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        keys = self._keys(x)
        pooled = self._scores(keys).softmax(-1) @ _split(self.v(keys), self.heads)
        token = self.token + self.scale1 * self.proj(_join(pooled))
        token = token + self.scale2 * self.mlp(self.norm2(token))
        return self.norm(token) if self.classes else self.norm(token)[:, 0]

    def fuse(self) -> nn.Module:
        """Return the deployed form, in which keys and values need no layer of their own.

        The query does not depend on the image, so that the keys' layer folds into it; since shares sum to 1, the
        values' layer folds into the one behind; both LayerScales fold too. The keys' bias adds the same to every score
        of a token, which softmax does not see.
        """
        exact = copy.deepcopy(self).double()
        with torch.no_grad():
            keys, values = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (exact.k, exact.v))
            out = exact.proj.weight.unflatten(1, (self.heads, -1)).transpose(0, 1)
            query = (exact._query()[0] @ keys).flatten(0, 1)
            weight = exact.scale1[:, None] * torch.cat([*(out @ values)], dim=1)
            bias = exact.scale1 * exact.proj(exact.v.bias)
            last = exact.mlp[2]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(exact.scale2[:, None])
            last.bias.mul_(exact.scale2)
        deployed = DeployedAttentionPool(query, exact.token, weight, bias, exact.mlp, self.classes)
        for name in ("norm1", "norm2", "norm"):
            setattr(deployed, name, getattr(exact, name))
        return deployed.to(device=self.token.device, dtype=self.token.dtype).train(self.training)

    def _query(self) -> Tensor:
        """Return the queries (1, heads, T, C / heads), the same for every image."""
        query = _split(self.q(self.norm1(self.token))[None], self.heads)
        return query * query.shape[-1] ** -0.5

    def _scores(self, keys: Tensor) -> Tensor:
        return self._query() @ _split(self.k(keys), self.heads).transpose(2, 3)


class DeployedAttentionPool(Pooling):
    """What `AttentionPool.fuse` returns: (B, C, H, W) -> (B, C), or (B, K, C) per class."""

    def __init__(
        self, query: Tensor, token: Tensor, weight: Tensor, bias: Tensor, mlp: nn.Module, classes: int | None
    ) -> None:
        super().__init__()
        channels = token.shape[1]
        self.classes = classes
        self.heads = len(query) // len(token)
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.query = nn.Parameter(query)
        self.token = nn.Parameter(token)
        self.values = nn.Linear(weight.shape[1], channels)
        self.values.weight = nn.Parameter(weight)
        self.values.bias = nn.Parameter(bias)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = mlp
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        keys = self._keys(x)
        pooled = self._scores(keys).softmax(-1) @ keys[:, None]
        token = self.token + self.values(_join(pooled))
        token = token + self.mlp(self.norm2(token))
        return self.norm(token) if self.classes else self.norm(token)[:, 0]

    def _scores(self, keys: Tensor) -> Tensor:
        return (self.query @ keys.transpose(1, 2)).unflatten(1, (self.heads, -1))


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


def _split(x: Tensor, heads: int) -> Tensor:
    """Return the heads' parts of the channels: (B, N, C) -> (B, heads, N, C / heads)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    """Undo `_split`."""
    return x.transpose(1, 2).flatten(2)
