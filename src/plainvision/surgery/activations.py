"""Give any convolutional network series activations (arXiv:2305.12972, Table 2)."""

from collections import Counter

from torch import fx, nn

from plainvision.inspection.tracing import computes_as, example_input, output_shapes, own_copy, replace_layer, trace
from plainvision.layers.series_activation import SeriesActivation


def series_activation(
    model: nn.Module, n: int = 3, *, image_size: int | tuple[int, int] | None = None, channels: int | None = None
) -> nn.Module:
    """Return a new network in which each ReLU on an image-like tensor is a series activation that computes the same.

    Where one ReLU layer serves several places, as in torchvision's ResNets, each place gets its own, and the network
    comes back as a `torch.fx.GraphModule` with the same names.

    Args:
        model: the network; it stays as it is.
        n: how far a pixel looks; the kernel's side is 2n + 1.
        image_size: side, or (H, W), of the image that is passed through once, to see how wide each activation is.
        channels: of that image; the network's own by default.

    Raises:
        ValueError: there is no such ReLU, or one that serves several places in a network that cannot be traced.
    """
    model = own_copy(model)
    within = {id(m.act) for m in model.modules() if isinstance(m, SeriesActivation)}
    shapes = {
        layer: [shape for shape in found if len(shape) == 4]
        for layer, found in output_shapes(
            model,
            example_input(model, 1, image_size, channels),
            lambda module: computes_as(module, nn.ReLU) and id(module) not in within,
        ).items()
    }
    shapes = {layer: found for layer, found in shapes.items() if found}
    if not shapes:
        raise ValueError(
            f"no ReLU layer on an image-like tensor in {type(model).__name__}. A ReLU that is called as a function is "
            "not a layer; other activations are left alone."
        )
    names = {module: name for name, module in model.named_modules() if module in shapes}
    if all(len(found) == 1 for found in shapes.values()):
        for layer, found in shapes.items():
            replace_layer(model, names[layer], _series(layer, model, found[0][1], n))
        return model
    return _one_per_place(model, {names[layer]: [s[1] for s in found] for layer, found in shapes.items()}, n)


def _one_per_place(model: nn.Module, channels: dict[str, list[int]], n: int) -> nn.Module:
    graph: fx.GraphModule | None = trace(model)
    if graph is None:
        shared = next(name for name, found in channels.items() if len(found) > 1)
        raise ValueError(
            f"the ReLU {shared!r} of {type(model).__name__} serves several places, and its forward pass cannot be "
            "traced to give each its own. Give the network one ReLU per place."
        )
    calls: Counter[str] = Counter()
    for node in list(graph.graph.nodes):
        name = str(node.target)
        if node.op != "call_module" or name not in channels:
            continue
        place = calls[name]
        calls[name] += 1
        own = name if place == 0 else f"{name}_{place}"
        layer = _series(model.get_submodule(name), model, channels[name][place], n)
        if place == 0:
            replace_layer(graph, own, layer)
        else:
            graph.add_submodule(own, layer)
            node.target = own
    graph.recompile()
    return graph


def _series(relu: nn.Module, model: nn.Module, channels: int, n: int) -> SeriesActivation:
    layer = SeriesActivation(channels, n)
    layer.become_relu()
    parameter = next(model.parameters())
    return layer.to(device=parameter.device, dtype=parameter.dtype).train(relu.training)
