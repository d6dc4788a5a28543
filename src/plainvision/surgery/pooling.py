"""Give any classifier that ends in a global average the learned aggregation instead (arXiv:2112.13692, section 4.3)."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from plainvision.inspection.tracing import example_input, own_copy, replace_layer, replace_layers, trace_alone
from plainvision.layers.attention_pool import AttentionPool, Pooling


def attention_pooling(model: nn.Module, per_class: bool = False, *, channels: int | None = None) -> nn.Module:
    """Return a new network with an `AttentionPool` in the place of the average (B, C, H, W) -> (B, C) before its head.

    All weights are kept; the pool's are new and have to be trained. ResNet-50 goes from 4.1 to 4.5 G multiply-adds
    (the paper prints 4.6). Where the average is a call, not a layer, the part that makes it, in MobileNetV2 the whole
    network, becomes a `torch.fx.GraphModule` with the same names.

    Create the network with the right number of classes first: timm's ``reset_classifier`` may build its own pooling.

    Args:
        model: the network; it stays as it is.
        per_class: one class token, and so one map, for each of the K classes. The head runs on each token, and logit
            k is the classifier's row k on token k: 38 G multiply-adds for a ResNet-50 of 1000 classes.
        channels: of the image that is passed through once; the network's own by default.

    Raises:
        ValueError: no global average that all logits depend on, or one that cannot be replaced; ``per_class`` without a
            classifier.
    """
    model = own_copy(model)
    name = type(model).__name__
    if any(isinstance(module, Pooling) for module in model.modules()):
        raise ValueError(f"{name} pools by attention already, and has no average to replace. Take it as it is.")
    probe = _Probe(model, channels)
    average, logits = probe.pooling()
    classes = None
    if per_class:
        layer, outputs = probe.last_linear
        # A network on the meta device has shapes and no values.
        if outputs.flatten(1).shape != logits.shape or not (logits.is_meta or torch.equal(outputs.flatten(1), logits)):
            raise ValueError(
                f"per_class=True gives each class token its row of the classifier, and {name} has none: no linear "
                "layer or 1x1 convolution gives its output. Create it with num_classes above 0, or drop per_class."
            )
        classes = logits.shape[1]
        replace_layer(model, layer, _TokenLogits(model.get_submodule(layer)))
    pool = AttentionPool(average.channels, classes=classes).to(next(model.parameters(), torch.zeros(())))
    owner = model.get_submodule(average.owner)
    new: nn.Module = _InPlaceOfAverage(pool, average).train(owner.training)
    calls = [call for call in probe.averages if call.owner == average.owner]
    if not isinstance(owner, nn.AdaptiveAvgPool2d | FastAdaptiveAvgPool):
        new = _rewired(owner, new, calls.index(average), len(calls))
    elif len(calls) > 1:
        raise ValueError(
            f"the average pooling {average.owner!r} of {name} serves {len(calls)} places, of which attention pooling "
            "replaces one. Give the network one such layer per place."
        )
    return replace_layers(model, {owner: new})


@dataclass(frozen=True, eq=False)
class _Average:
    """A call that averages a feature map over its height and width."""

    owner: str  # the layer in whose forward pass it is made
    channels: int
    channels_last: bool  # of (B, H, W, C), as timm's Swin has it
    keepdim: bool
    reduces: bool  # there was more than one place to average over


class _Probe(TorchFunctionMode):
    """A pass of an image through a copy of a network, which notes the averages, of layers and of calls."""

    def __init__(self, model: nn.Module, channels: int | None) -> None:
        super().__init__()
        # Without weights that learn, the logits require a gradient exactly where they depend on the image.
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.images = example_input(model, 1, channels=channels).requires_grad_()
        self.averages: list[_Average] = []
        self.last_linear = ("", torch.empty(0))
        self._within: list[str] = []
        self._cut: int | None = None
        for name, module in self.model.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: self._within.append(name))
            module.register_forward_hook(self._leave)

    def pooling(self) -> tuple[_Average, Tensor]:
        """Return the last average, through which all passes that the logits know of the image, and the logits.

        Squeeze-and-excitation averages too, but beside it the features pass on.
        """
        self._pass(None)
        last = max((index for index, average in enumerate(self.averages) if average.reduces), default=None)
        logits = self._pass(last)
        if last is None or not isinstance(logits, Tensor) or logits.requires_grad:
            raise ValueError(
                f"no average to replace in {type(self.model).__name__}: its logits do not all depend on one mean over "
                "the height and width of a feature map (B, C, H, W). Networks that end in tokens, or in a grid of "
                "features, have none. Give a network with global average pooling, such as a ResNet."
            )
        return self.averages[last], logits

    def _pass(self, cut: int | None) -> object:
        self.averages, self._cut = [], cut
        with self, torch.enable_grad():
            return self.model(self.images.clone())  # a pass may write into what it is given

    def _leave(self, module: nn.Module, _: object, output: Any) -> None:
        name = self._within.pop()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
            self.last_linear = (name, output.detach().clone())  # an activation in place may follow

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        form = _form(func, args, kwargs or {})
        features = args[0] if args else None
        if form is None or not isinstance(features, Tensor) or features.ndim != 4:
            return result
        _, *sizes = features.shape
        channels = sizes.pop(-1 if form[0] else 0)
        self.averages.append(_Average(self._within[-1], channels, *form, reduces=sizes != [1, 1]))
        return result.detach() if len(self.averages) - 1 == self._cut else result


def _form(func: object, args: tuple, kwargs: dict) -> tuple[bool, bool] | None:
    """Return (channels_last, keepdim) of a call that averages height and width, and None of any other."""
    if func is F.adaptive_avg_pool2d:
        size = (dict(zip(("input", "output_size"), args, strict=False)) | kwargs)["output_size"]
        return (False, True) if size in (1, (1, 1), [1, 1]) else None
    if func in (torch.mean, Tensor.mean, "mean"):
        given = dict(zip(("input", "dim", "keepdim"), args, strict=False)) | kwargs
        dims = given.get("dim")
        axes = sorted(axis % 4 for axis in dims) if isinstance(dims, tuple | list) else []
        return (axes == [1, 2], given.get("keepdim", False)) if axes in ([1, 2], [2, 3]) else None
    return None


class _InPlaceOfAverage(nn.Module):
    """Attention pooling with the average's shapes; the tokens of classes go into the batch: B K instead of B."""

    def __init__(self, pool: Pooling, average: _Average) -> None:
        super().__init__()
        self.pool = pool
        self.channels_last, self.keepdim = average.channels_last, average.keepdim

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x.movedim(3, 1) if self.channels_last else x).flatten(0, -2)
        if not self.keepdim:
            return x
        return x[:, None, None] if self.channels_last else x[:, :, None, None]


class _TokenLogits(nn.Module):
    """A trained classifier's rows, each on the token of its class: (B K, C) or (B K, C, 1, 1) -> as many of (B, K)."""

    def __init__(self, trained: nn.Module) -> None:
        super().__init__()
        assert isinstance(trained, nn.Linear | nn.Conv2d)
        self.weight, self.bias = trained.weight, trained.bias
        self.classes = len(trained.weight)
        self.keepdim = isinstance(trained, nn.Conv2d)

    def forward(self, x: Tensor) -> Tensor:
        logits = (x.flatten(1).unflatten(0, (-1, self.classes)) * self.weight.flatten(1)).sum(-1)
        logits = logits if self.bias is None else logits + self.bias
        return logits[:, :, None, None] if self.keepdim else logits


def _rewired(owner: nn.Module, new: nn.Module, index: int, count: int) -> nn.Module:
    """Return ``owner`` as a graph that calls ``new`` where it makes average number ``index`` of ``count``."""
    graph = trace_alone(owner)
    nodes = [node for node in (graph.nodes if graph else []) if node.op in ("call_function", "call_method")]
    averages = [node for node in nodes if _form(node.target, node.args, node.kwargs)]
    if graph is None or len(averages) != count:
        raise ValueError(
            f"the forward pass of {type(owner).__name__} calls the average itself and cannot be rewritten: it cannot "
            "be traced, or does something else in training. Make the average an nn.AdaptiveAvgPool2d(1) layer."
        )
    owner.add_module("attention_pool", new)
    with graph.inserting_after(averages[index]):
        averages[index].replace_all_uses_with(graph.call_module("attention_pool", averages[index].args[:1]))
    graph.erase_node(averages[index])
    rewired = fx.GraphModule(owner, graph, type(owner).__name__)
    for name, child in owner.named_children():  # whole, also what this forward pass does not use
        setattr(rewired, name, child)
    return rewired
