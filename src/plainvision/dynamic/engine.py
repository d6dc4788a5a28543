"""Logits of all permutations for a batch of images; what they share is computed once."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from plainvision.dynamic.levels import Levels, Values, configured, set_options
from plainvision.layers.dynamic_conv import Option, Permutation

Tree = dict[Option, "Tree"] | list[int]
"""Options of the first site that an image meets, then of the next one, ...; at the end numbers of permutations."""


def shared_passes(
    levels: Levels, permutations: Sequence[Permutation], sites: Sequence[str], images: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of each permutation and its logits (B, K), in the order in which they share most.

    What comes before a site is computed once for all options of it and of the sites behind it, for ``images``
    (B, C, H, W). A network whose pass cannot be traced runs a whole pass for each permutation.
    """
    tree = _tree(permutations, [list(sites).index(site) for site in levels.sites])
    values: Values = {}
    with configured(levels.model, {}):
        levels.run(0, values, images)
        yield from _walk(levels, 1, tree, values)


def whole_passes(
    levels: Levels, permutations: Sequence[Permutation], sites: Sequence[str], images: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Yield what `shared_passes` yields, by one whole pass for each permutation, in their order."""
    with configured(levels.model, {}):
        for number, permutation in enumerate(permutations):
            set_options(levels.model, dict(zip(sites, permutation, strict=True)))
            yield number, levels.model(images.clone())  # some networks write into what they are given


def _walk(levels: Levels, number: int, tree: Tree, values: Values) -> Iterator[tuple[int, Tensor]]:
    if isinstance(tree, list):
        logits = values[levels.output]
        yield from ((permutation, logits) for permutation in tree)
        return
    site = levels.sites[number - 1]
    for option, below in tree.items():
        set_options(levels.model, {site: option})
        levels.run(number, values)
        yield from _walk(levels, number + 1, below, values)
        for node in levels.levels[number].kept:
            del values[node]


def _tree(permutations: Sequence[Permutation], order: Sequence[int]) -> Tree:
    """Return the permutations' numbers under their options; ``order`` has the places of the sites in permutations."""
    return _branch({number: [permutation[i] for i in order] for number, permutation in enumerate(permutations)})


def _branch(left: Mapping[int, Sequence[Option]]) -> Tree:
    if not all(left.values()):
        return list(left)
    first: dict[Option, dict[int, Sequence[Option]]] = {}
    for number, options in left.items():
        first.setdefault(options[0], {})[number] = options[1:]
    return {option: _branch(below) for option, below in first.items()}
