"""Train a detector on images with boxes or masks in COCO's form: a folder, a .zip or a .tar.

Example: plainvision detect train retinanet --data.root trees.zip --out runs/trees --epochs 20
"""

from plainvision.commands.options.task_training import train_by_words
from plainvision.tasks.learning import Detection

_SAID = {
    "data.root": "A folder, a .zip or a .tar with a file of annotations for each split and a folder of its images.",
    "data.image_size": "Shorter side of an image as the network sees it, in pixels; the longer gets 5/3 of it at most.",
}


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    train_by_words(Detection, words, __doc__, _SAID)
