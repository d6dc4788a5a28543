"""What the networks of studies and searches share: the mean over all places, and a linear layer behind it.

They are no family of `list_models()`: they are made to be compared, not to be put to work.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class StudyNetwork(nn.Module):
    """Extended by ``forward_features``; images (B, C, H, W) -> logits (B, K) for K classes."""

    num_features: int
    """Channels that the classifier gets."""
    drop_rate: float
    """Dropout before it."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the classifier takes the mean of: (B, C, H, W) -> (B, num_features, H', W')."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of `forward_features`, or with ``pre_logits`` the mean over all places."""
        x = F.dropout(x.mean((2, 3)), self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new one; 0 classes leave it out. The only ``global_pool`` is "avg"."""
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool={global_pool!r}: networks of studies pool by average. Leave it out.")
        self.num_classes = num_classes
        last = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.classifier: nn.Module = last.to(next(self.parameters()))
