"""Outcomes: the answer of every permutation for every image (arXiv:2103.09891, sections 3.3 and 4).

Shapes   N images, P permutations, K views of the image
Units    accuracies are top-1 in per cent, costs are multiply-adds for one image
An oracle is told the true class. Its score is a bound: no network reaches it without being told.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plainvision.dynamic import analyses
from plainvision.dynamic.analyses import Bounds, Control, Efficiency, Greedy, Preferences, per_cent
from plainvision.dynamic.space import Space
from plainvision.layers.dynamic_conv import Option, Permutation, describe


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The answer of each permutation of a network for each image.

    Raises:
        ValueError: the arrays do not fit together, a class does not exist, or a confidence is NaN.
    """

    network: str
    """What the network is called."""
    fingerprint: str
    """Of its weights: which network this record belongs to."""
    sites: dict[str, str]
    """The layer at each site."""
    permutations: tuple[Permutation, ...]
    """The P permutations, one option per site."""
    default: Permutation
    """That of the trained network, among the permutations or not."""
    macs: np.ndarray
    """Multiply-adds of each permutation for one image, (P,) int64."""
    static_macs: int
    """Multiply-adds of the trained network."""
    classes: int
    """Number of classes."""
    names: tuple[str, ...]
    """The images' paths, in the order of the rows."""
    labels: np.ndarray
    """True classes, (N,) of the type of the predictions."""
    predictions: np.ndarray
    """Predicted classes, (N, P) uint16, or uint32 above 65,536 classes."""
    log_confidences: np.ndarray
    """Natural logarithms of the softmax probability of the true class, (N, P) float32; near 1 they still differ."""
    log_tops: np.ndarray
    """Those of the predicted class, (N, P) float32."""
    static_predictions: np.ndarray
    """Answers of the trained network, (N,)."""
    mean_predictions: np.ndarray | None = None
    """Answers of the mean softmax of all permutations, (N,); None when some have been left out since."""
    views: dict[str, np.ndarray] = field(default_factory=dict)
    """Answers of the trained network for K other views of each image, (N, K), by name: the oracle's controls.

    Any first k of the columns are such views too, beginning with the image as it is.
    """
    condition: dict[str, float] = field(default_factory=dict)
    """How the images differ from those that the network was made for: {"scale": 2} or {"context": 150}; or {}."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Permutations of the space that were not evaluated: how many, by reason."""
    skipped: tuple[str, ...] = ()
    """Images that could not be read, and why."""

    def __post_init__(self) -> None:
        images, permutations = len(self.names), len(self.permutations)
        if not images or not permutations:
            raise ValueError(f"{images} images and {permutations} permutations: there must be one or more of each.")
        if wrong := [one for one in (*self.permutations, self.default) if len(one) != len(self.sites)]:
            raise ValueError(f"a permutation has {len(wrong[0])} options, and there are {len(self.sites)} sites.")
        answers = {
            "labels": (self.labels, (images,)),
            "predictions": (self.predictions, (images, permutations)),
            "static_predictions": (self.static_predictions, (images,)),
            **{f"views[{name!r}]": (view, (images, view.shape[-1])) for name, view in self.views.items()},
        }
        if self.mean_predictions is not None:
            answers["mean_predictions"] = (self.mean_predictions, (images,))
        kind = self.predictions.dtype
        if kind not in (np.uint16, np.uint32):
            raise ValueError(f"predictions are {kind}. Make them uint16, or uint32 above 65,536 classes.")
        logarithms = {"log_confidences": self.log_confidences, "log_tops": self.log_tops}
        arrays = {name: (*one, kind) for name, one in answers.items()}
        arrays |= {name: (one, (images, permutations), np.dtype(np.float32)) for name, one in logarithms.items()}
        arrays["macs"] = self.macs, (permutations,), np.dtype(np.int64)
        for name, (array, shape, wanted) in arrays.items():
            if array.shape != shape or array.dtype != wanted:
                raise ValueError(
                    f"{name} is {array.dtype} of shape {array.shape}, and must be {wanted} of shape {shape}."
                )
        for name, array in logarithms.items():
            if (unknown := np.isnan(array)).any():
                row, column = np.unravel_index(unknown.argmax(), unknown.shape)
                raise ValueError(
                    f"{name} is NaN for {self.names[row]} at {describe(self.permutations[column], [*self.sites])}"
                    ": the network overflowed. Evaluate it in float32, or leave such options out."
                )
        for name, (array, _) in answers.items():
            if array.size and (highest := int(array.max())) >= self.classes:
                if name != "labels":
                    raise ValueError(f"{name} has class {highest}, and the network has {self.classes}, counted from 0.")
                raise ValueError(
                    f"labels outside the classes: {self.names[int(array.argmax())]} has label {highest}, and the "
                    f"network has {self.classes} classes, 0 to {self.classes - 1}. Give a network that knows the "
                    "classes of these images, or images of its classes."
                )

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that change."""
        return Space(chosen=self.permutations).attributes

    @property
    def correct(self) -> np.ndarray:
        """Which permutation is right for which image, (N, P) bool."""
        return self.predictions == self.labels[:, None]

    @property
    def static_correct(self) -> np.ndarray:
        """For which image the trained network is right, (N,) bool."""
        return self.static_predictions == self.labels

    def bounds(self) -> Bounds:
        """Return the worst, median and best case over the permutations, in per cent (section 3.3, Table 1)."""
        return analyses.bounds(self.correct, self.static_correct)

    def volatility(self) -> float:
        """Return the best case less the worst, in percentage points (section 3.4)."""
        return self.bounds().volatility

    def each(self) -> np.ndarray:
        """Return the accuracy of each permutation as a static network, (P,) in per cent (Figure 6, grey markers)."""
        return 100 * np.count_nonzero(self.correct, axis=0) / len(self.names)

    def unique_predictions(self) -> np.ndarray:
        """Return how many different classes the permutations predict for each image, (N,) (section 4.2, Figure 2)."""
        return analyses.unique_predictions(self.predictions)

    def greedy(self, k: int | None = None) -> Greedy:
        """Return the permutations in the order in which each makes most further images right (section 4.2, Figure 3).

        Ties go to the lower index, and so does everything once no permutation adds an image.

        Args:
            k: how many; None is all.

        Raises:
            ValueError: k is below 1, or there are fewer permutations.
        """
        count = len(self.permutations)
        if k is not None and not 1 <= k <= count:
            raise ValueError(
                f"k={k}: there are {count} permutations. Give a number from 1 to {count}, or None for all."
            )
        return analyses.greedy(self.correct, count if k is None else k)

    def select(self, indices: Sequence[int]) -> "Outcomes":
        """Return the outcomes of these permutations alone, in this order.

        The answer of the mean softmax is unknown where some are left out. Views keep as many columns as there are
        permutations, at most, so that controls stay of equal number.

        Raises:
            ValueError: an index does not exist or is named twice, or there is none.
        """
        count = len(self.permutations)
        columns = [int(index) for index in indices]
        outside = [index for index in columns if not 0 <= index < count]
        if outside or not columns or len(set(columns)) < len(columns):
            what = f"there is no permutation {outside[0]}" if outside else "each must be named once, and one at least"
            raise ValueError(f"cannot select from {count} permutations: {what}. Give indices from 0 to {count - 1}.")
        return replace(
            self,
            permutations=tuple(self.permutations[column] for column in columns),
            macs=self.macs[columns],
            predictions=self.predictions.take(columns, axis=1),
            log_confidences=self.log_confidences.take(columns, axis=1),
            log_tops=self.log_tops.take(columns, axis=1),
            mean_predictions=self.mean_predictions if len(columns) == count else None,
            views={name: view[:, : len(columns)] for name, view in self.views.items()},
        )

    def restrict(self, sites: str | Sequence[str]) -> "Outcomes":
        """Return the outcomes of the permutations that change these sites alone (section 4.3).

        Args:
            sites: names of the sites, or a key of `layer_choices`, such as "AB".

        Raises:
            ValueError: a site does not exist, or every permutation changes other sites too.
        """
        if isinstance(sites, str):
            sites = list(sites) if self._letters else sites.split("+")
        if unknown := [site for site in sites if site not in self.sites]:
            raise ValueError(f"unknown site {unknown[0]!r}: the sites are {', '.join(self.sites)}.")
        others = [index for index, site in enumerate(self.sites) if site not in sites]
        kept = [
            index
            for index, permutation in enumerate(self.permutations)
            if all(_is_default(permutation[other], self.default[other]) for other in others)
        ]
        if not kept:
            raise ValueError(
                f"no permutation changes {', '.join(sites) or 'nothing'} alone: each has other options than "
                f"{describe(self.default, [*self.sites])} elsewhere. Evaluate a space with the trained options in it."
            )
        return self.select(kept)

    def layer_choices(self) -> dict[str, "Outcomes"]:
        """Return the outcomes of each choice of sites, A, B, ..., AB, ..., by their names (section 4.3, Figure 4).

        Names that are longer than a letter are joined by "+".

        Raises:
            ValueError: some choice has no permutation, because the trained options are not in the space.
        """
        names = [*self.sites]
        chosen = [sites for n in range(len(names)) for sites in itertools.combinations(names, n + 1)]
        return {self.joined(sites): self.restrict(sites) for sites in chosen}

    def joined(self, sites: Sequence[str]) -> str:
        """Return the name of a choice of sites: "AB", or "stem+head" where names are longer than a letter."""
        return ("" if self._letters else "+").join(sites)

    def preferences(self) -> Preferences:
        """Return which permutation and which options the images prefer, in shares (sections 3.3 and 4.5, Figure 5).

        The preferred permutation is that of highest quality (eq. 1). Confidences near 1 cannot be told apart in
        float32, so it is ordered by being right, then by the confidence's logarithm; ties go to the lower index.
        """
        best = analyses.preferred(self.correct, self.log_confidences)
        counts = np.bincount(best, minlength=len(self.permutations))
        options: dict[str, dict[str, float]] = {site: {} for site in self.sites}
        for permutation, count in zip(self.permutations, counts.tolist(), strict=True):
            for shares, option in zip(options.values(), map(str, permutation), strict=True):
                shares[option] = shares.get(option, 0) + count
        for shares in options.values():
            shares |= {option: count / len(best) for option, count in shares.items()}
        return Preferences(best, counts / len(best), options)

    def cheapest(self, like: Literal["static", "best"]) -> Efficiency:
        """Return the cheapest permutations that predict the same, right or wrong, as another network (section 4.6).

        Ties go to the lower index. Where no permutation predicts what the trained network does, which can be when its
        options are not in the space, the trained network itself is chosen.

        Args:
            like: "static", the trained network, or "best", each image's preferred permutation.

        Raises:
            ValueError: ``like`` is something else.
        """
        if like not in ("static", "best"):
            raise ValueError(f"like={like!r}: give 'static', the trained network, or 'best', the best case.")
        wanted, reference = self.static_predictions, float(self.static_macs)
        if like == "best":
            best = analyses.preferred(self.correct, self.log_confidences)
            wanted = self.predictions[np.arange(len(best)), best]
            reference = float(self.macs[best].mean())
        chosen = analyses.cheapest(self.predictions, wanted, self.macs)
        # The trained network stands behind the permutations, where the index -1 finds it.
        macs = np.append(self.macs, np.int64(self.static_macs))
        return Efficiency(like, per_cent(wanted == self.labels), float(macs[chosen].mean()), reference, chosen)

    def controls(self) -> list[Control]:
        """Return what reaches how much with P answers per image, without changing a layer or without an oracle.

        Views of which there are fewer than P are left out, which the last note says. The paper has no controls.
        """
        return analyses.controls(self.predictions, self.labels, self.log_tops, self.mean_predictions, self.views)

    def scores(self) -> list[dict[str, Any]]:
        """Return bounds and controls as one table: what, its top-1 in per cent, and whether it is an oracle's."""
        bounds = self.bounds()
        rows = [("static", bounds.static, False)]
        rows += [(name, getattr(bounds, name), True) for name in ("worst", "median", "best")]
        rows += [(control.name, control.top1, control.uses_labels) for control in self.controls()]
        return [
            {"what": what, "top-1 %": top1, "uses the labels": "yes: an oracle" if oracle else "no"}
            for what, top1, oracle in rows
        ]

    def combine(self, *others: "Outcomes", limit: int = 625) -> Space:
        """Return the space that combines these outcomes' attributes in the same sites (section 4.4, eq. 2).

        It is the product of the first k permutations of each in greedy order; k is the most with which the product
        has no more than ``limit``: 25 for two attributes, 8 for three.

        Raises:
            ValueError: networks or sites differ, an attribute changes in two of them, there is nothing to combine, or
                fewer permutations than needed.
        """
        parts = (self, *others)
        if len(parts) < 2 or limit < 1:
            raise ValueError("nothing to combine. Give the outcomes of another attribute, and a limit from 1.")
        changing: list[str] = []
        for part in parts:
            if (part.fingerprint, [*part.sites]) != (self.fingerprint, [*self.sites]):
                raise ValueError(
                    f"outcomes of {self.network} ({self.fingerprint}, sites {', '.join(self.sites)}) do not combine "
                    f"with those of {part.network} ({part.fingerprint}, sites {', '.join(part.sites)}): it is another "
                    "network, or has other sites. Evaluate one network at one choice of sites."
                )
            if again := [name for name in part.attributes if name in changing]:
                raise ValueError(f"{again[0]} changes in two of the outcomes. Give one for each attribute.")
            changing += part.attributes
        k = 1
        while (k + 1) ** len(parts) <= limit:
            k += 1
        fewest = min(len(part.permutations) for part in parts)
        if fewest < k:
            raise ValueError(
                f"{k} permutations of each of {len(parts)} outcomes make up to {limit}, and one has {fewest}. Give a "
                f"limit of {fewest ** len(parts)}, or evaluate more."
            )
        return Space.combined([part.permutations[index] for index in part.greedy(k).order] for part in parts)

    def save(self, path: str | Path) -> None:
        """Write the outcomes into one .safetensors file, whole or not at all; missing folders are made.

        Raises:
            OSError: the folder cannot be written, or the disk is full; the old file is still there.
        """
        from plainvision.dynamic import outcomes_file

        outcomes_file.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> "Outcomes":
        """Return what `save` wrote.

        Args:
            path: the file.
            fingerprint: of the network that the outcomes must be of; None takes those of any.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, holds no outcomes, or those of another network.
        """
        from plainvision.dynamic import outcomes_file

        return outcomes_file.load(Path(path), fingerprint)

    def to_pandas(self) -> Any:
        """Return a DataFrame of one row per image and permutation, N x P rows.

        Columns: image, label, one for each site with the option in words, prediction, confidence (in the true class,
        from 0 to 1), correct. Names and options are categories, because 50,000 x 625 strings would not fit.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "a table needs the package `pandas`, which is not installed. pip install pandas"
            ) from error
        images, permutations = self.predictions.shape

        def categories(words: Sequence[str]) -> tuple[np.ndarray, list[str]]:
            places = {word: place for place, word in enumerate(dict.fromkeys(words))}
            return np.array([places[word] for word in words], np.int32), [*places]

        codes, known = categories(self.names)
        columns = {
            "image": pandas.Categorical.from_codes(codes.repeat(permutations), known),
            "label": self.labels.repeat(permutations),
        }
        for index, site in enumerate(self.sites):
            codes, known = categories([str(one[index]) for one in self.permutations])
            columns[site] = pandas.Categorical.from_codes(np.tile(codes, images), known)
        columns["prediction"] = self.predictions.ravel()
        columns["confidence"] = np.exp(self.log_confidences).ravel()
        columns["correct"] = self.correct.ravel()
        return pandas.DataFrame(columns)

    @property
    def _letters(self) -> bool:
        """Whether each site's name is a single letter."""
        return all(len(site) == 1 for site in self.sites)


def _is_default(option: Option, default: Option) -> bool:
    """Return whether a site stays as it was trained, for which None is another word."""
    return all(value in (None, getattr(default, name)) for name, value in vars(option).items())
