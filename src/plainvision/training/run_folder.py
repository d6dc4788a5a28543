"""A run's folder: its recipe, metrics, weights and full state.

    recipe.json          what was asked for
    split.json           which images train and which validate, where the run drew that
    metrics.jsonl        one line per look at the loss and one per epoch
    best.safetensors     the best network so far by validation top-1, the average where the recipe keeps one; once
                         deep training has ended, the best that fuses
    last.safetensors     the newest
    state.pt             everything that a restart needs
    report.html          the run on one page, once it has ended
    tensorboard/         where a run is tracked so; wandb/ likewise

Weights carry the recipe in their header, so that a file alone says which network it belongs to.
"""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from plainvision.data.drawn_split import DrawnSplit
from plainvision.data.settings import RECORDED
from plainvision.files import nearby, write_json
from plainvision.models.described import bounded, build_outline, check_description
from plainvision.training.recipe import Recipe, as_recorded, with_files
from plainvision.training.resumable import ResumableFolder, read_asked
from plainvision.training.weights_file import Origin, save_network

# Bytes of a recipe; the longest option of a network, a genotype, has 2 ** 20.
_LARGEST = 2**22
# Of the network that somebody else's recipe describes.
_MOST_NUMBERS, _MOST_LAYERS = 2**31, 2**17


class RunFolder(ResumableFolder):
    """The files of one run; in a distributed run, only the main process writes.

    Raises:
        ValueError: the folder holds another recipe's run, this one's without ``resume``, or nothing to resume.
    """

    file = "recipe.json"
    noun = "run"
    other = "a run of another recipe, {}"
    advice = "the recipe and the overrides of that run; what names files is only taken from your own words"
    free = ("machine.", "data.workers")  # how the run uses the hardware

    def __init__(self, path: str | Path, recipe: Recipe, *, resume: bool) -> None:
        self.recipe = recipe
        self.drawn: DrawnSplit | None = None
        self.this = f"a run of the recipe {recipe.name!r}"
        super().__init__(path, recipe.to_dict(), resume=resume)

    def save_weights(self, kind: str, weights: dict[str, Tensor], classes: tuple[str, ...], epoch: int) -> None:
        """Write the weights of the network as it is in ``epoch``; ``kind`` is "best" or "last"."""
        recipe = self.recipe
        if self.drawn is not None:  # whoever scores the network has to score it on the same images
            recipe = replace(recipe, data=replace(recipe.data, split_fingerprint=self.drawn.fingerprint))
        save_network(self.path / f"{kind}.safetensors", weights, Origin(recipe, classes, epoch))

    def save_split(self) -> None:
        """Write which images train and which validate, where the run drew that."""
        if self.drawn is not None:
            data, drawn = self.recipe.data, self.drawn
            split = {
                "validation_share": data.validation_share,
                "folds": data.folds,
                "fold": data.fold,
                "split_seed": data.split_seed,
                "fingerprint": drawn.fingerprint,
                "validation": drawn.validation,
                "train": drawn.train,
            }
            write_json(self.path / "split.json", split)


def recorded_recipe(folder: Path, given: Recipe) -> Recipe:
    """Return the recipe of the run in ``folder``, to resume it: what names files is taken from ``given``.

    Raises:
        ValueError: the file is damaged, or describes no network.
    """
    found = _recipe_in(folder / RunFolder.file)
    kept = as_recorded(found)
    changed = (name for name, value in vars(kept.data).items() if value != getattr(found.data, name))
    data = replace(kept.data, **{name: getattr(given.data, name) for name in changed})
    new_classifier = found.new_classifier and given.start_from is not None

    def named(place: int, name: str, text: str) -> str | None:
        same = place < len(given.techniques) and type(given.techniques[place]) is type(kept.techniques[place])
        return getattr(given.techniques[place], name) if same else text

    kept = with_files(kept, named)
    return replace(kept, data=data, start_from=given.start_from, new_classifier=new_classifier)


def recipe_of(path: Path) -> Recipe:
    """Return the recipe in a recipe.json, or in that of a run's folder, to train anew by it.

    It is data: what names files, the weights to start from too, is kept as text behind `RECORDED`, which opens nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or describes no network, or one that is far larger than any.
    """
    file = path / RunFolder.file if path.is_dir() else path
    if not file.is_file():
        what = f"it holds no {RunFolder.file}" if path.is_dir() else "there is no such file"
        raise FileNotFoundError(
            f"no recipe in {path}: {what}.{nearby(file)} Give the folder of a run, its recipe.json, or the name of a "
            "recipe."
        )
    found = _recipe_in(file)
    try:
        with bounded(_MOST_NUMBERS, _MOST_LAYERS):
            build_outline(found.model, found.model_options)
    except Exception as error:  # networks raise anything about their options
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{file}: its network {found.model} cannot be built, or has more than {_MOST_NUMBERS:,} numbers or "
            f"{_MOST_LAYERS:,} layers ({why}). Correct model_options, or copy the file again."
        ) from error
    start_from = found.start_from and RECORDED + found.start_from.removeprefix(RECORDED)
    return replace(as_recorded(found), start_from=start_from, new_classifier=found.new_classifier)


def _recipe_in(file: Path) -> Recipe:
    if (size := file.stat().st_size) > _LARGEST:
        raise ValueError(f"{file} has {size:,} bytes, and no recipe is so long. Give the recipe.json of a run.")
    try:
        found = Recipe.from_dict(read_asked(file))
        check_description(found.model, found.model_options)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return found
