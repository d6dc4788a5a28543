"""The head of most families: global pooling and a linear layer."""

from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """Global pooling, dropout and a linear layer: features (B, C, H, W) -> logits (B, K).

    Args:
        channels: C.
        classes: K; 0 leaves the linear layer out.
        pooling: "avg", "max", or "" for none, which needs ``classes`` 0.
        drop_rate: of the dropout.

    Raises:
        ValueError: the pooling is unknown, or missing in front of classes.
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
