"""Give any convolutional network series activations (arXiv:2305.12972, Table 2)."""

from collections import Counter

from torch import fx, nn

from plainvision.inspection.tracing import (
    computes_as,
    example_input,
    output_shapes,
    own_copy,
    replace_layer,
    replace_layers,
    trace_graph,
)
from plainvision.layers.series_activation import SeriesActivation
from plainvision.surgery.pairs import Init, check_init


def series_activation(
    model: nn.Module,
    n: int = 3,
    *,
    init: Init = "identity",
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> nn.Module:
    """Return a new network in which each ReLU on an image-like tensor is a series activation that computes the same.

    A ReLU layer that serves several places, as in torchvision's ResNets, is replaced by one layer for each, and the
    network comes back as a `torch.fx.GraphModule` with the same names.

    Args:
        model: the network; it stays as it is.
        n: how far a pixel looks; the kernel's side is 2n + 1.
        init: "random" starts the kernels as VanillaNet's, for training from the beginning, and the network computes
            something else.
        image_size: side, or (H, W), of the image that is passed through once, to see how wide each activation is.
        channels: of that image; the network's own by default.

    Raises:
        ValueError: there is no such ReLU or ``init``, or a ReLU that serves several places in a network that cannot be
            traced.
    """
    check_init(init)
    model = own_copy(model)
    within = {id(m.act) for m in model.modules() if isinstance(m, SeriesActivation)}
    shapes = output_shapes(
        model,
        example_input(model, 1, image_size, channels),
        lambda module: computes_as(module, nn.ReLU) and id(module) not in within,
    )
    widths = {relu: found for relu, own in shapes.items() if (found := [shape[1] for shape in own if len(shape) == 4])}
    if not widths:
        raise ValueError(
            f"no ReLU layer on an image-like tensor in {type(model).__name__}. A ReLU that is called as a function is "
            "not a layer; other activations are left alone."
        )
    if all(len(found) == 1 for found in widths.values()):
        return replace_layers(model, {relu: _series(relu, model, found[0], n, init) for relu, found in widths.items()})
    names = {module: name for name, module in model.named_modules()}
    return _one_per_place(model, {names[relu]: found for relu, found in widths.items()}, n, init)


def _one_per_place(model: nn.Module, channels: dict[str, list[int]], n: int, init: Init) -> nn.Module:
    traced = trace_graph(model)
    if traced is None:
        shared = next(name for name, found in channels.items() if len(found) > 1)
        raise ValueError(
            f"the ReLU {shared!r} of {type(model).__name__} serves several places, and its forward pass cannot be "
            "traced to give each its own. Give the network one ReLU per place."
        )
    graph = fx.GraphModule(model, traced, type(model).__name__)
    calls: Counter[str] = Counter()
    for node in list(graph.graph.nodes):
        name = str(node.target)
        if node.op != "call_module" or name not in channels:
            continue
        place = calls[name]
        calls[name] += 1
        own = name if place == 0 else f"{name}_{place}"
        layer = _series(model.get_submodule(name), model, channels[name][place], n, init)
        if place == 0:
            replace_layer(graph, own, layer)
        else:
            graph.add_submodule(own, layer)
            node.target = own
    graph.recompile()
    return graph


def _series(relu: nn.Module, model: nn.Module, channels: int, n: int, init: Init) -> SeriesActivation:
    layer = SeriesActivation(channels, n)
    if init == "identity":
        layer.become_relu()
    return layer.to(next(model.parameters())).train(relu.training)
