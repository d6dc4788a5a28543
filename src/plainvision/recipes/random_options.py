"""Random option fine-tuning of any network: the recipe, and the weights that it starts from (arXiv:2103.09891)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from plainvision.processes import process_group
from plainvision.recipes.dynamic import imagenet
from plainvision.training.network_words import Network, NetworkWords
from plainvision.training.recipe import Data, Recipe
from plainvision.training.techniques import EMA, RandomOptions


def finetuning(network: Network, words: NetworkWords, technique: RandomOptions, data: Data, start: str) -> Recipe:
    """Return the recipe that trains a network with random options by the schedule of the paper.

    Args:
        network: what ``words`` have loaded.
        words: which network it is.
        technique: its options.
        data: the images.
        start: path or URL of the weights, see `starting_weights`.

    Raises:
        ValueError: a run cannot rebuild the network.
    """
    check_trainable(words)
    origin = network.origin
    options: dict[str, Any] = dict(origin.recipe.model_options if origin else words.options)
    return replace(
        imagenet(technique),
        name="random_option_finetuning",
        model=origin.recipe.model if origin else words.name,
        num_classes=options.pop("num_classes", None),
        model_options=options,
        start_from=start,
        data=data,
    )


def check_trainable(words: NetworkWords) -> None:
    """Raise a `ValueError` where a run cannot rebuild the network that the words name."""
    if words.is_torchvision:
        raise ValueError(
            f"{words.name}: a run has to rebuild its network by a name of ours or timm's. timm has most of "
            "torchvision's networks and their weights, for instance resnet50.tv_in1k --pretrained."
        )
    if words.deployed:
        raise ValueError(f"{words.name}: the deployed form can't be trained. Drop `:deployed`.")


def starting_weights(network: Network, words: NetworkWords, out: Path, weights: str = "best") -> str:
    """Return the file of a loaded network's weights; those that come from no run are first written into ``out``.

    Of a run they are its "best" or "last" ``weights``.

    Raises:
        ValueError: the recipe of a run does more to its network than to train it.
    """
    from safetensors.torch import save_model

    from plainvision.files import write_whole

    if network.origin is None:
        file = out / "pretrained.safetensors"
        processes = process_group()
        if processes.is_main_process and not file.exists():
            out.mkdir(parents=True, exist_ok=True)
            write_whole(file, lambda path: save_model(network.model, str(path)))
        processes.wait_for_everyone()
        return str(file)
    others = [one for one in network.origin.recipe.techniques if not isinstance(one, EMA | RandomOptions)]
    if network.origin.deployed or others:
        raise ValueError(
            f"{words.name} is {f'a network with {others[0]}' if others else 'a deployed form'}, which this "
            "command does not know how to rebuild. In Python, train by its own recipe with RandomOptions beside its "
            "techniques."
        )
    path = Path(words.name)
    return str(path / f"{weights}.safetensors" if path.is_dir() else path)
