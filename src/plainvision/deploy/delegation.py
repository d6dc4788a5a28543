"""What share of a network's operations a faster library computes in the place of its runtime."""

from collections import Counter
from dataclasses import dataclass

LEAST_DELEGATED = 0.95


@dataclass(frozen=True)
class Delegation:
    """What share of a file's operations XNNPACK computes, and which it does not."""

    share: float
    """From 0 to 1. Changes of a tensor's shape compute nothing and do not count."""
    left: dict[str, int]
    """How often each of the other operations occurs."""
    most_images: int
    """How many images the file takes at once: memory is planned for so many."""

    @classmethod
    def of(cls, delegated: Counter[str], left: Counter[str], most_images: int) -> "Delegation":
        """Return the delegation of operations counted by name."""
        count = delegated.total() + left.total()
        return cls(delegated.total() / count if count else 1.0, dict(left.most_common()), most_images)

    def __str__(self) -> str:
        told = f"XNNPACK computes {self.share:.1%} of the operations"
        return f"{told}, all but {self._others()}" if self.left else told

    def check(self, least: float) -> None:
        """Check that enough is delegated.

        Raises:
            ValueError: the share is below ``least``.
        """
        if self.share < least:
            raise ValueError(
                f"XNNPACK computes {self.share:.1%} of the network's operations, and {least:.1%} are asked for. Left "
                f"to slower code are {self._others()}. Allow less by least_delegated={int(100 * self.share) / 100:g}, "
                "or export to another format."
            )

    def _others(self) -> str:
        return ", ".join(f"{name}{f' ({count} times)' if count > 1 else ''}" for name, count in self.left.items())
