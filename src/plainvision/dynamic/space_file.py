"""A file of permutations: what `plainvision dynamic greedy --combine` writes and `evaluate --space` reads."""

from collections.abc import Sequence
from pathlib import Path

from plainvision.dynamic.space import Space, to_plain
from plainvision.fields import typed
from plainvision.files import read_object, write_json
from plainvision.layers.dynamic_conv import Permutation


def write_space(path: Path, space: Space, sites: Sequence[str]) -> None:
    """Write permutations into a file that `read_space` reads."""
    write_json(path, {"sites": list(sites), "permutations": to_plain(space.chosen or ())})


def read_space(path: Path) -> tuple[Space, tuple[str, ...]]:
    """Return the permutations that `write_space` wrote, and the names of their sites.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    wanted = "Give a file that `plainvision dynamic greedy --combine` wrote."
    if not path.is_file():
        raise FileNotFoundError(f"no space at {path}. {wanted}")
    plain = read_object(path)
    if plain.keys() != {"sites", "permutations"}:
        raise ValueError(f"{path} holds no permutations (its fields are {', '.join(plain) or 'none'}). {wanted}")
    try:
        sites = typed(tuple[str, ...], plain["sites"], "sites")
        chosen = typed(tuple[Permutation, ...], plain["permutations"], "permutations")
        if not chosen or any(len(permutation) != len(sites) for permutation in chosen):
            raise ValueError(f"not every permutation has an option for each of the {len(sites)} sites")
        return Space(chosen=chosen), sites
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({str(error).rstrip('.')}). {wanted}") from error
