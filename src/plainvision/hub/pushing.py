"""Put a trained network on the Hugging Face Hub, with its model card. Tokens are huggingface_hub's own."""

import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, ModelCard

import plainvision
from plainvision.hub.asking import asking
from plainvision.hub.trained import CARD, write_files
from plainvision.training.network_words import Network


def push(
    found: Network,
    repo: str,
    *,
    card: ModelCard,
    private: bool = False,
    revision: str | None = None,
    message: str = "Add the network",
) -> str:
    """Put a trained network into a repository of the Hub, which is made where there is none, and return its address.

    A README.md that the repository has already stays.

    Args:
        found: the network, from `trained_network`.
        repo: OWNER/NAME, or NAME for one of your own.
        card: its model card, from `model_card` or a file of your own.
        private: make a new repository one that only you see; one that is there stays as it is.
        revision: the branch to add it to; None is the main one.
        message: of the commit.

    Raises:
        ValueError: the name is none, or you may not write there.
        OSError: the Hub cannot be reached.
    """
    with tempfile.TemporaryDirectory() as place:
        write_folder(found, Path(place), card=card)
        api = HfApi(library_name="plainvision", library_version=plainvision.__version__)
        with asking(repo, "push to"):
            made = api.create_repo(repo, private=private or None, exist_ok=True)
            if api.file_exists(made.repo_id, CARD, revision=revision):
                (Path(place) / CARD).unlink()
            api.upload_folder(repo_id=made.repo_id, folder_path=place, revision=revision, commit_message=message)
    return str(made)


def write_folder(found: Network, folder: Path, *, card: ModelCard) -> bool:
    """Write what `push` puts on the Hub into a folder, and return whether timm rebuilds the network from it.

    Raises:
        OSError: it cannot be written, or something is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise OSError(f"{folder} is not empty. Give a new folder.")
    try:
        in_timm = write_files(found, folder, card.data.get("license"))
        (folder / CARD).write_text(str(card), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return in_timm
