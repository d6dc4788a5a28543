"""Ask what it would buy to configure a trained network for each image: evaluate, then look (arXiv:2103.09891).

Example: plainvision dynamic evaluate runs/resnet --attribute stride --data.root clothing.zip --out runs/stride
"""

from plainvision.commands import run_verb

VERBS = {
    "evaluate": "pass every image through every permutation of options, and keep the outcomes",
    "bounds": "worst, median and best case, by the layers that change, beside controls",
    "greedy": "how few permutations do, and which; write the space that combines attributes",
    "preferences": "which permutations and options images prefer, also by their scale or context",
    "efficiency": "how few multiply-adds would do for the same answers",
    "finetune": "train with random options, and evaluate before and after",
}


def main(words: list[str]) -> None:
    """Run ``plainvision dynamic VERB ...``."""
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(_help())
        return
    run_verb(words, VERBS, __name__, before="dynamic ")


def _help() -> str:
    what, example = (__doc__ or "").strip().split("\n\n")
    verbs = "\n".join(f"  {verb:<13}{what}" for verb, what in VERBS.items())
    return (
        f"{example}\n\n{what}\n\nusage: plainvision dynamic COMMAND [options]\n\n{verbs}\n\n"
        "`plainvision dynamic COMMAND --help` explains one, with an example. The others, but `finetune`, read what\n"
        "`evaluate` has written."
    )
