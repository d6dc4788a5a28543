"""Networks built to fool `fuse`: each comes out equal, or is refused in words, and what stays is said."""

import sys
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from networks_for_tests import trained
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import plainvision as pv
from plainvision.inspection.tracing import own_copy
from plainvision.layers import LinearPair, SeriesActivation
from plainvision.layers.fusable import BatchNorm
from plainvision.surgery.same_answers import tensors_of


class Net(nn.Module):
    """A body of two convolutions with norms, a pooling and a head; what differs is said by each class below."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.head = nn.Linear(6, 4)

    def features(self, x):
        return self.act(self.norm2(self.conv2(self.act(self.norm1(self.conv1(x))))))

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class InBody(Net):
    """Its pass cannot be traced, and its body can."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(self.conv1, self.norm1, self.act, self.conv2, self.norm2, self.act)

    def features(self, x):
        return self.body(x) if x.shape[-1] > 1 else x


class BrightReadsWeight(InBody):
    def forward(self, x):
        logits = super().forward(x)
        return logits * self.conv2.weight.mean() if x.abs().max() > 1e6 else logits


class LargeBatchReadsNorm(InBody):
    def forward(self, x):
        logits = super().forward(x)
        return logits + self.norm2.running_mean.sum() if len(x) > 1000 else logits


class BrightCallsConvolution(Net):
    def features(self, x):
        x = self.conv1(x)
        return self.act(x if x.mean() > 100 else self.norm1(x))


class TwoReaders(Net):
    def features(self, x):
        x = self.act(self.norm1(self.conv1(x)))
        y = self.conv2(x)
        return self.norm2(y) + y


class ReadsWeight(Net):
    def forward(self, x):
        return super().forward(x) + self.conv1.weight.sum()


class WeightByFunction(Net):
    def forward(self, x):
        return super().forward(x) + _total(self)


def _total(network):
    return network.conv1.weight.sum() + network.norm2.running_var.sum()


class FunctionalConvolution(Net):
    def features(self, x):
        x = self.norm1(nn.functional.conv2d(x, self.conv1.weight, stride=2))
        return self.norm2(self.conv2(self.act(x)))


class Counts(Net):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + (self.calls % 5 == 0))


class CountsInBuffer(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class ChangesWeight(Net):
    def forward(self, x):
        next(self.head.parameters()).data.mul_(1.01)
        return super().forward(x)


class Random(Net):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)


class KeepsFirst(Net):
    """Its first pass keeps something that later ones use: nothing is wrong with that."""

    def __init__(self):
        super().__init__()
        self.kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = torch.ones(4)
        return super().forward(x) * self.kept


class WritesInput(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.5).mul_(4))


class WithoutInformation(Net):
    """Its classifier is still zero."""

    def forward(self, x):
        return super().forward(x) * 0


class Twice(Net):
    """The first pair, twice: each time both of it."""

    def features(self, x):
        x = self.norm1(self.conv1(x))
        return self.norm2(self.conv2(self.norm1(self.conv1(x[:, :3]))))


class NormTwice(Net):
    def features(self, x):
        return self.norm1(self.conv2(self.act(self.norm1(self.conv1(x)))))


class Indexes(Net):
    """Calls the parts of a Sequential by their numbers."""

    def __init__(self):
        super().__init__()
        self.pair = nn.Sequential(self.conv1, self.norm1)

    def features(self, x):
        return self.norm2(self.conv2(self.act(self.pair[1](self.pair[0](x)))))


class PairInside(Net):
    def __init__(self):
        super().__init__()
        self.conv2 = LinearPair(
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)),
            nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)),
            slope=1.0,
        )


class SeriesInside(Net):
    def __init__(self):
        super().__init__()
        self.act = SeriesActivation(6, 1)


class Padded(nn.Conv2d):
    def forward(self, input):
        return super().forward(nn.functional.pad(input, (1, 0, 1, 0)))


class Standardised(nn.Conv2d):
    def forward(self, input):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(input, weight, self.bias)


class Negated(nn.ReLU):
    def forward(self, input):
        return -super().forward(-input)


class Doubled(nn.BatchNorm2d):
    def forward(self, input):
        return 2 * super().forward(input)


class OtherPair(LinearPair):
    def forward(self, x):
        return super().forward(x) + 1


class OtherSeries(SeriesActivation):
    def forward(self, x):
        return super().forward(x.abs())


@dataclass
class Answer:
    logits: Tensor
    name: str = "answer"


class Outputs(InBody):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return self.kind(super().forward(x), x.mean())


def change(attribute, layer):
    """Return a network of which one layer is another."""

    def make():
        network = Net()
        setattr(network, attribute, layer())
        return network

    return make


def hooked(register):
    def make():
        network = Net()
        register(network)
        return network

    return make


def own_forward():
    network = Net()
    network.conv1.forward = lambda x: nn.functional.conv2d(x, network.conv1.weight) * 3
    return network


def tied():
    network = Net()
    network.conv1 = nn.Conv2d(3, 6, 3, padding=1)
    network.extra = nn.Conv2d(3, 6, 3, padding=1)
    network.extra.weight = network.conv1.weight
    return network


def scripted_series():
    network = SeriesInside()
    network.act.act = Negated()
    return network


def pair_of(conv):
    network = PairInside()
    network.conv2.first[0] = conv
    return network


def without_statistics():
    network = trained(Net())
    network.norm1 = nn.BatchNorm2d(6, track_running_stats=False)
    return network.eval()


def pruned():
    network = trained(Net())
    prune.l1_unstructured(network.conv1, "weight", amount=0.5)
    return network


def tiny_variance():
    network = trained(Net())
    network.norm1.running_var.fill_(0)
    network.norm1.eps = 0
    return network


# Network -> how many norms and whole layers stay, or words of the refusal.
FOOLING = {
    "plain": (Net, 0),
    "cannot be traced": (InBody, 0),
    "reads a weight when it is bright": (BrightReadsWeight, 2),
    "reads statistics in large batches": (LargeBatchReadsNorm, 2),
    "leaves the norm out when it is bright": (BrightCallsConvolution, 2),
    "two readers": (TwoReaders, 1),
    "reads a weight": (ReadsWeight, 2),
    "reads a weight in a function": (
        WeightByFunction,
        r"its forward pass asks a layer for something that folding takes",
    ),
    "calls a convolution as a function": (FunctionalConvolution, 2),
    "counts its passes": (Counts, r"its forward pass changes 'calls'"),
    "counts its passes in a buffer": (CountsInBuffer, r"its forward pass changes 'calls'"),
    "changes its weights": (ChangesWeight, r"its forward pass changes 'head\.weight'"),
    "random": (Random, r"answers the same image in two ways"),
    "keeps something of its first pass": (KeepsFirst, 0),
    "writes into its input": (WritesInput, 0),
    "no information in its answer": (WithoutInformation, 0),
    "a pair of layers twice": (Twice, 0),
    "a norm twice": (NormTwice, 2),
    "calls a Sequential's parts": (Indexes, r"its forward pass asks a layer for something that folding takes away"),
    "a linear pair": (PairInside, 0),
    "a series activation": (SeriesInside, 0),
    "a padded convolution": (change("conv1", lambda: Padded(3, 6, 3)), 1),
    "a standardised convolution": (change("conv1", lambda: Standardised(3, 6, 3)), 1),
    "another ReLU": (change("act", Negated), 0),
    "another norm": (change("norm1", lambda: Doubled(6)), 1),
    "another linear pair": (
        change("conv2", lambda: OtherPair(nn.Sequential(nn.Conv2d(6, 6, 1)), nn.Sequential(nn.Conv2d(6, 6, 1)))),
        2,
    ),
    "another series activation": (change("act", lambda: OtherSeries(6, 1)), 1),
    "a series activation with another ReLU": (scripted_series, r"changes its answers by"),
    "a pair of padded convolutions": (lambda: pair_of(Padded(6, 6, 3)), r"a part is one nn\.Conv2d"),
    "a forward hook on a convolution": (
        hooked(lambda n: n.conv1.register_forward_hook(lambda _, __, output: output * 2)),
        1,
    ),
    "a pre-hook on a convolution": (hooked(lambda n: n.conv1.register_forward_pre_hook(lambda _, x: x[0] + 1)), 1),
    "a hook on a norm": (hooked(lambda n: n.norm2.register_forward_hook(lambda _, __, output: output.relu())), 1),
    "a pre-hook on a norm": (hooked(lambda n: n.norm2.register_forward_pre_hook(lambda _, x: x[0] + 1)), 1),
    "a pass of its own": (own_forward, 1),
    "pruned": (pruned, 1),
    "weight norm": (hooked(lambda n: parametrizations.weight_norm(n.conv1)), 1),
    "tied weights": (tied, 1),
    "norms of several processes": (lambda: nn.SyncBatchNorm.convert_sync_batchnorm(Net()), 0),
    "no running statistics": (without_statistics, 1),
    "a variance of zero": (
        tiny_variance,
        r"changes its answers by|does not take|eps must be positive",
    ),  # torch 2.11 says so
    "a list": (lambda: Outputs(lambda logits, mean: [logits, mean]), 0),
    "a dict": (lambda: Outputs(lambda logits, mean: OrderedDict(out=logits, aux={"mean": mean, "none": None})), 0),
    "a dataclass": (lambda: Outputs(lambda logits, mean: Answer(logits)), 0),
    "numbers": (lambda: Outputs(lambda logits, mean: (logits, 3, 2.5)), 0),
    "boxes": (lambda: Outputs(lambda logits, mean: [{"boxes": logits > 0, "labels": logits.argmax(1)}]), 0),
    "an object": (lambda: Outputs(lambda logits, mean: iter([logits])), r"returns a list_iterator, and only tensors"),
    "nothing": (lambda: Outputs(lambda logits, mean: None), r"returns no tensor"),
}


BUILT = ("a variance of zero", "no running statistics", "pruned")  # as they are


@pytest.mark.parametrize("kind", FOOLING)
def test_no_network_is_fused_into_another(kind):
    make, expected = FOOLING[kind]
    network = make() if kind in BUILT else trained(make())
    pv.set_slope(network, 1)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            pv.fuse(network, image_size=16, images=2)
        return
    try:
        fused = pv.fuse(network, image_size=16, images=2)
    except ValueError as error:
        # Where nothing can be folded, that and the reasons are said.
        assert f"{expected} stay as they were" in str(error)  # noqa: PT017
        return
    left = [name for name, module in fused.named_modules() if isinstance(module, BatchNorm | LinearPair)]
    assert len(fused.report.stayed) == expected
    assert all(name in fused.report.stayed or name.rpartition(".")[0] in fused.report.stayed for name in left)
    for scale, shift, size, batch in (
        (1, 0, 16, 3),
        (30, 0, 16, 1),
        (1, 200, 24, 1),
        (1e-3, 5, 12, 2),
        (1e7, 0, 16, 1),
    ):
        images = torch.randn(batch, 3, size, size) * scale + shift
        answers, found = flat(own_copy(network)(images.clone())), flat(own_copy(fused)(images.clone()))
        for one, other in zip(answers, found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * max(1e-3, one.abs().max().item()))
    assert sum(p.numel() for p in fused.parameters()) <= sum(p.numel() for p in network.parameters())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def flat(output) -> list[Tensor]:
    return [tensor.float() for tensor in tensors_of(output)]


def test_an_answer_without_information_is_said_to_have_none():
    report = pv.fuse(trained(WithoutInformation()), image_size=16, images=2).report
    assert not report.informative
    assert "all images get the same answer, which proves nothing: only the folded layers were compared" in str(report)
    assert "proves nothing" not in str(pv.fuse(trained(Net()), image_size=16, images=2).report)


def test_an_answer_without_information_hides_no_error(monkeypatch):
    module = sys.modules[pv.surgery.merge_pairs.__module__]

    right = module.fold_batch_norm

    def wrong(conv, norm):
        folded = right(conv, norm)
        folded.bias.data += 1
        return folded

    monkeypatch.setattr(module, "fold_batch_norm", wrong)
    with pytest.raises(ValueError, match=r"changes its answers by"):
        pv.fuse(trained(WithoutInformation()), image_size=16, images=2)


def test_half_precision_hides_no_error(monkeypatch):
    module = sys.modules[pv.surgery.merge_pairs.__module__]

    right = module.fold_batch_norm

    def wrong(conv, norm):
        folded = right(conv, norm)
        folded.bias.data += 1e-4
        return folded

    network = trained(Net()).to(torch.bfloat16)
    report = pv.fuse(network, image_size=16, images=2).report
    assert report.exact_dtype == "float64"
    assert report.exact_relative_error < 1e-12 < report.largest_relative_error
    monkeypatch.setattr(module, "fold_batch_norm", wrong)
    with pytest.raises(ValueError, match=r"changes its answers by .* more than the tolerance of 1e-06"):
        pv.fuse(network, image_size=16, images=2)


def test_the_report_says_how_many_stayed_and_why():
    report = pv.fuse(trained(TwoReaders()), image_size=16, images=2).report
    assert dict(report.stayed) == {"norm2": "others read the convolution before it too"}
    assert "1 stay as they were: 1 because others read the convolution before it too" in str(report)


def test_nothing_to_fuse_is_said_only_when_there_is_nothing():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match=r"cannot fold anything in Sequential: 1 stay .* no convolution alone stands"):
        pv.fuse(network)
    with pytest.raises(ValueError, match=r"nothing to fuse in Sequential"):
        pv.fuse(network[1:])


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda network: torch.compile(network, backend="eager"),
        lambda network: torch.optim.swa_utils.AveragedModel(nn.DataParallel(network)),
        lambda network: nn.Sequential(nn.DataParallel(torch.compile(network, backend="eager"))),
    ],
    ids=["parallel", "averaged", "compiled", "nested", "inside"],
)
def test_what_wraps_a_network_is_taken_off(wrap):
    network = trained(Net())
    fused = pv.fuse(wrap(network), image_size=16, images=2)
    assert not any(isinstance(module, BatchNorm | nn.DataParallel) for module in fused.modules())
    assert not any("_orig_mod" in key or "module" in key for key in fused.state_dict())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(fused(images), network(images), rtol=1e-4, atol=1e-5)
