"""Train a segmenter on photographs with maps of labels: folders such as ADE20k's, also packed.

Example: plainvision segment train upernet --data.root fields --num-classes 2 --out runs/fields --epochs 20
"""

from plainvision.commands.options.task_training import train_by_words
from plainvision.tasks.learning import Segmentation

_SAID = {
    "num_classes": "How many classes there are, where no classes.txt at the root names them.",
    "data.root": "A folder, a .zip or a .tar with a folder of photographs and one of their maps for each split.",
    "data.image_size": "Side of the squares that train, in pixels; evaluation resizes the shorter side to it.",
}


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    train_by_words(Segmentation, words, __doc__, _SAID)
