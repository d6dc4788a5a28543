"""Find objects in photographs, their boxes and masks, with any network as backbone.

Example: plainvision detect train retinanet --data.root trees.zip --out runs/trees
"""

from plainvision.commands import run_group

VERBS = {
    "train": "train a RetinaNet or a Mask R-CNN on a data set in COCO's form",
    "evaluate": "score a trained detector: average precision of boxes and masks",
    "predict": "draw what is found in photographs, and write it as COCO's results",
}


def main(words: list[str]) -> None:
    """Run ``plainvision detect VERB ...``."""
    run_group(words, VERBS, __name__, __doc__)
