"""Explanations that are kept in a folder, so that the same call after a kill goes on with those left."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.data.kept import kept, network_facts
from plainvision.explain.explanation import Explanation
from plainvision.fields import from_plain


class KeptExplanations:
    """The explanations of a network in a folder, by the image and by how it is explained; None keeps none."""

    def __init__(self, folder: Path | None, model: nn.Module) -> None:
        self._folder = folder
        self._network = [] if folder is None else network_facts(model)

    def __call__(self, image: Tensor, how: Mapping[str, Any], explain: Callable[[], Explanation]) -> Explanation:
        """Return the explanation of ``image`` (C, H, W), computed by ``explain`` if it is not there.

        Args:
            image: as the network sees it.
            how: all else that decides the explanation, as JSON has it.
            explain: computes it.

        Raises:
            OSError: the folder cannot be written.
        """
        values = image.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        seen = [list(image.shape), hashlib.sha256(values.data).hexdigest()]
        about = {"network": self._network, "image": seen, **how}
        return kept(self._folder, about, explain, taken_apart=_taken_apart, put_together=_put_together)


def _taken_apart(one: Explanation) -> tuple[dict[str, Tensor], dict[str, Any]]:
    plain = {name: value for name, value in vars(one).items() if name not in ("picture", "maps", "deletions")}
    return {"picture": one.picture, "maps": one.maps}, plain | {"deletions": [asdict(d) for d in one.deletions]}


def _put_together(tensors: dict[str, Tensor], plain: dict[str, Any]) -> Explanation:
    return from_plain(Explanation, plain, "explanation", {"picture": tensors["picture"], "maps": tensors["maps"]})
