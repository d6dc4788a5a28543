"""What each of VanillaNet's techniques is worth: the paper's Tables 1 to 3, on ImageNet-1k.

Paper    Chen et al. 2023, https://arxiv.org/abs/2305.12972, Tables 1 (series), 2 (networks) and 3 (shortcuts)
Run      plainvision train vanillanet_6_series_2 --data.root IMAGENET --out runs/series_2
Cost     300 epochs each, as `vanillanet_6_imagenet_official`; no hours are published
Expect   the top-1 of one run that each table below holds, published, not yet reproduced here

The paper gives no settings for these runs. VanillaNet-6 keeps its row of Table 7, by which its full form
reaches the same 76.36 % in Tables 1 to 4, with the average of the authors' command, because that of the table
cannot work (see vanillanet.py). AlexNet and ResNet-50 take that row too, less what is tuned to a network's own
layers: no layer-wise decay, and the dropout that the network comes with. For these two, compare
the four runs with each other: their level depends on the settings, and the paper's 76.13 % is also what
torchvision publishes for its first ResNet-50, of 90 epochs without Mixup, CutMix and RandAugment. Its AlexNet is
that of 2012, with 96, 256, 384, 384 and 256 channels. Second halves of pairs and kernels of series activations start
at random in all three, as VanillaNet's do.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

from plainvision.recipes.registry import add_recipe
from plainvision.recipes.vanillanet import imagenet, imagenet_official
from plainvision.training.recipe import Recipe
from plainvision.training.techniques import LinearPairs, SeriesActivations

Network = Literal["vanillanet_6", "alexnet", "resnet50"]


class Case(NamedTuple):
    """One run of Table 2: which network, and which of the two techniques."""

    network: Network
    deep_training: bool
    series_activation: bool

    @property
    def name(self) -> str:
        """The recipe's name."""
        names = (("neither", "series_activation"), ("deep_training", "both"))
        return f"{self.network}_{names[self.deep_training][self.series_activation]}"


# Top-1, per cent. n of the series activation; 0 is a plain ReLU.
TABLE_1 = {0: 60.53, 1: 74.53, 2: 75.62, 3: 76.36, 4: 76.43}
TABLE_2 = {
    Case("vanillanet_6", False, False): 59.58,
    Case("vanillanet_6", True, False): 60.53,
    Case("vanillanet_6", False, True): 75.23,
    Case("vanillanet_6", True, True): 76.36,
    Case("alexnet", False, False): 57.52,
    Case("alexnet", True, False): 59.09,
    Case("alexnet", False, True): 61.12,
    Case("alexnet", True, True): 63.59,
    Case("resnet50", False, False): 76.13,
    Case("resnet50", True, False): 76.16,
    Case("resnet50", False, True): 76.30,
    Case("resnet50", True, True): 76.27,
}
# Where a shortcut joins.
TABLE_3: dict[Literal["before", "after"] | None, float] = {None: 76.36, "before": 75.92, "after": 75.72}


def _base() -> Recipe:
    """Return VanillaNet-6's row of Table 7, with the command's average of the weights."""
    return replace(imagenet(6), techniques=imagenet_official(6).techniques)


def series(n: int) -> Recipe:
    """Return the run of Table 1 with the series activation's ``n``."""
    base = _base()
    return replace(base, name=f"vanillanet_6_series_{n}", model_options={**base.model_options, "series": n})


def techniques(case: Case) -> Recipe:
    """Return a run of Table 2: VanillaNet has both techniques built in, others get them by surgery before training."""
    base = _base()
    deep, average = base.techniques
    annealing = (deep,) if case.deep_training else ()
    if case.network == "vanillanet_6":
        built_in = {"linear_pairs": case.deep_training, "series": 3 if case.series_activation else 0}
        options = {**base.model_options, **built_in}
        return replace(base, name=case.name, model_options=options, techniques=(*annealing, average))
    pairs = (LinearPairs(init="random"),) if case.deep_training else ()
    series_activations = (SeriesActivations(n=3, init="random"),) if case.series_activation else ()
    return replace(
        base,
        name=case.name,
        model=case.network,
        model_options={"original": True} if case.network == "alexnet" else {},
        layer_decay=None,
        techniques=(*pairs, *series_activations, *annealing, average),
    )


def shortcut(where: Literal["before", "after"] | None) -> Recipe:
    """Return the run of Table 3 whose shortcut joins before or after the activation, or which has none."""
    base = _base()
    name = f"vanillanet_6_shortcut_{where or 'none'}"
    return replace(base, name=name, model_options={**base.model_options, "shortcut": where})


_TITLES: dict[Network, str] = {"vanillanet_6": "VanillaNet-6", "alexnet": "AlexNet", "resnet50": "ResNet-50"}
_OURS = (
    "\n\nThe paper gives no settings for this network. They are Table 7's for VanillaNet-6, without "
    "layer-wise decay and with the network's own dropout."
)
_ON = "on ImageNet-1k. Expect {:.2f} % top-1 (arXiv:2305.12972, Table {})."

for _n, _top1 in TABLE_1.items():
    _what = f"series activation of n={_n}{'' if _n else ', a plain ReLU'}"
    add_recipe(f"VanillaNet-6 with {_what}, {_ON.format(_top1, 1)}", series, _n)
for _case, _top1 in TABLE_2.items():
    _deep, _act = ("with" if given else "without" for given in _case[1:])
    _what = f"{_TITLES[_case.network]} {_deep} deep training, {_act} series activation"
    _ours = "" if _case.network == "vanillanet_6" else _OURS
    add_recipe(f"{_what}, {_ON.format(_top1, 2)}{_ours}", techniques, _case)
for _where, _top1 in TABLE_3.items():
    _what = f"a shortcut {_where} the activation" if _where else "no shortcut"
    add_recipe(f"VanillaNet-6 with {_what}, {_ON.format(_top1, 3)}", shortcut, _where)
