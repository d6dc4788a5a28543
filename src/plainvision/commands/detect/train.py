"""Train a detector on images with boxes or masks in COCO's form: a folder, a .zip or a .tar.

Example: plainvision detect train retinanet --data.root trees.zip --out runs/trees --epochs 20
"""

import itertools

from plainvision.commands import say
from plainvision.commands.options.task_training import train_by_words
from plainvision.tasks.learning import Detection
from plainvision.training.recipe import Recipe

_SAID = {
    "data.root": "A folder, a .zip or a .tar with a file of annotations for each split and a folder of its images.",
    "data.image_size": "Shorter side of an image as the network sees it, in pixels; the longer gets 5/3 of it at most.",
}


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    for place, pair in enumerate(itertools.pairwise(words)):
        if pair == ("--anchor-sizes", "fit"):
            train_by_words(Detection, words[:place] + words[place + 2 :], __doc__, _SAID, _fitted)
            return
    train_by_words(Detection, words, __doc__, _SAID)


def _fitted(recipe: Recipe) -> Recipe:
    """Return the recipe with anchors that fit the training boxes, and say their sizes."""
    from plainvision.tasks.starting import with_fitted_anchors

    found = with_fitted_anchors(recipe)
    assert isinstance(found.task, Detection)
    say(f"anchor_sizes=fit: {found.task.anchor_sizes}")
    return found
