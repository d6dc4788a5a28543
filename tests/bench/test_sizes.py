"""Networks of one size at several, mixed precision, and memory as papers count it."""

import pytest
import timm
import torch
from torch import nn

import plainvision as pv
from plainvision.bench import at_size, measure
from plainvision.commands import main


def test_position_embeddings_are_resized_and_what_cannot_run_is_told():
    networks = {
        "vit": timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=3),
        "resnet": timm.create_model("resnet18", num_classes=3),
        "pit": timm.create_model("pit_ti_224", num_classes=3),
    }
    found, refused = at_size(networks, 96, 3)
    assert found.keys() == {"vit", "resnet"}
    assert found["resnet"] is networks["resnet"]
    assert found["vit"](torch.randn(1, 3, 96, 96)).shape == (1, 3)
    assert networks["vit"].pos_embed.shape[1] == 197  # the one that was given stays
    assert "size of tensor" in refused["pit"]


def test_bench_goes_on_where_a_network_does_not_fit(capsys):
    main(["bench", "resnet18", "pit_ti_224", "--sizes", "64", "96", "--runs", "2"])
    said = capsys.readouterr()
    assert "pit_ti_224 does not run at 64 pixels: " in said.out + said.err
    main(["bench", "resnet18", "--image-size", "64", "--runs", "1"])
    assert "Peak memory with weights and images: resnet18 " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["bench", "pit_ti_224", "--sizes", "64", "96", "--runs", "2"])
    assert "no network runs at any of these sizes" in capsys.readouterr().err


def test_mixed_precision_keeps_the_weights_and_casts_the_layers():
    seen = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            found = self.conv(x)
            seen.append((x.dtype, self.conv.weight.dtype, found.dtype))
            return found.mean((2, 3))

    (found,) = measure(Watching(), image_size=16, runs=2, precision="amp")
    assert found.precision == "amp"
    assert (torch.float32, torch.float32, torch.bfloat16) in seen


def test_total_memory_holds_the_weights_and_the_images():
    network = pv.create_model("resnet20_cifar", num_classes=10)
    (found,) = measure(network, image_size=32, batch_size=4, runs=2)
    weights = sum(tensor.nbytes for tensor in network.state_dict().values()) / 1e6
    assert found.held_mb == pytest.approx(weights + 4 * 3 * 32 * 32 * 4 / 1e6, rel=0.01)
    if found.peak_memory_mb is not None:
        assert found.total_memory_mb == found.peak_memory_mb + found.held_mb
        assert found.to_dict()["total_memory_mb"] == found.total_memory_mb
