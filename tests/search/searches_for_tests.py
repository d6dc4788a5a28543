"""Searches that take a second: narrow, short networks on the embedded digits."""

from dataclasses import replace

from plainvision.search import CellSearch, CellSpace, Genotype, random_genotype
from plainvision.training import Augment, Data

DIGITS = Data(root="digits", channels=1, image_size=8, crop_ratio=1.0, mean=(0.3,), std=(0.37,), workers=0)
TINY = CellSearch(
    data=DIGITS,
    augment=Augment(scale=(0.6, 1.0), flip=0.0),
    depth=3,
    nodes=2,
    channels=4,
    epochs=2,
    batch_size=180,  # 3 steps an epoch
    architecture_lr=0.1,
    checkpoint_steps=2,
)
INDIVIDUAL = replace(TINY, cells="individual", depth=5)


def cells(space: CellSpace | None = None, seed: int = 0) -> Genotype:
    """Return cells drawn at random."""
    return random_genotype(space or TINY.space, seed)
