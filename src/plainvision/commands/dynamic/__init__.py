"""Ask what it would buy to configure a trained network for each image: evaluate, then look (arXiv:2103.09891).

Example: plainvision dynamic evaluate runs/resnet --attribute stride --data.root clothing.zip --out runs/stride
"""

from plainvision.commands import run_group

VERBS = {
    "evaluate": "pass every image through every permutation of options, and keep the outcomes",
    "bounds": "worst, median and best case, by the layers that change, beside controls",
    "greedy": "how few permutations do, and which; write the space that combines attributes",
    "preferences": "which permutations and options images prefer, also by their scale or context",
    "efficiency": "how few multiply-adds would do for the same answers",
    "tables": "make the paper's Tables 1, 2 and 3, each row beside the published one",
    "finetune": "train with random options, and evaluate before and after",
}


def main(words: list[str]) -> None:
    """Run ``plainvision dynamic VERB ...``."""
    more = " The others, but `finetune` and\n`tables`, read what `evaluate` has written."
    run_group(words, VERBS, __name__, __doc__, more)
