"""Name the class of each pixel of photographs, with any network as backbone.

Example: plainvision segment train upernet --data.root fields --num-classes 2 --out runs/fields
"""

from plainvision.commands import run_group

VERBS = {
    "train": "train an UPerNet on photographs with maps of labels",
    "evaluate": "score a trained segmenter: intersection over union of each class",
    "predict": "draw the classes over photographs, and write their maps",
}


def main(words: list[str]) -> None:
    """Run ``plainvision segment VERB ...``."""
    run_group(words, VERBS, __name__, __doc__)
