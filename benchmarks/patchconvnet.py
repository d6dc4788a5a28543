"""Claim: PatchConvNet is at least 1.5 times as fast as its straightforward form, with no more peak memory.

The straightforward form is how one would write the paper down, and how the official code does: between blocks there are
tokens (B, N, C); every block turns them into images (B, C, H, W) and back, and with one class token per class there is
a loop over K linear layers of one output. Both forms get the same weights and must answer alike before they are timed.

    $ python benchmarks/patchconvnet.py --threads 2
    $ python benchmarks/patchconvnet.py --device cuda --precision bf16 --batch-size 256 --runs 30

Writes results/patchconvnet.json, or results/patchconvnet_cuda.json on a GPU. Holds when, for both networks in training
form, the 95 % interval of the median speed ratio lies above 1.5, and patchconvnet_s60 needs no more peak memory. The
deployed form, and on a GPU all of them compiled, are further rows.
"""

import argparse
import copy
from typing import Any

import torch
from claim import at_least, conclude
from torch import Tensor, nn

import plainvision as pv
from plainvision.bench import comparison, measure
from plainvision.layers.attention_pool import AttentionPool, ClassTokenLogits
from plainvision.models.patchconvnet import ColumnBlock, PatchConvNet, PatchGELU

CLAIM = "PatchConvNet is at least 1.5 times as fast as its straightforward form, with no more peak memory"
FASTER = 1.5
NETWORKS = ("patchconvnet_s60", "patchconvnet_s60_multi")
FORMS = ("straightforward", "ours", "ours, deployed")


class Straightforward(nn.Module):
    """A PatchConvNet's weights in the straightforward form: images (B, 3, H, W) -> logits (B, K)."""

    pool: AttentionPool

    def __init__(self, model: PatchConvNet) -> None:
        super().__init__()
        model = copy.deepcopy(model)
        assert isinstance(model.pool, AttentionPool)
        assert isinstance(model.stem, nn.Sequential)
        blocks = [block for block in model.blocks if isinstance(block, ColumnBlock)]
        self.stem = _plain(model.stem)
        self.norms = nn.ModuleList(_layer_norm(block.branch[0]) for block in blocks)
        self.branches = nn.ModuleList(_plain(block.branch[1:]) for block in blocks)
        self.scales = nn.ParameterList(block.scale for block in blocks)
        self.pool = model.pool
        self.heads = nn.ModuleList([model.head])
        if isinstance(model.head, ClassTokenLogits):
            self.heads = nn.ModuleList(_row(model.head, k) for k in range(model.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        height, width = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        for norm, branch, scale in zip(self.norms, self.branches, self.scales, strict=True):
            image = norm(x).transpose(1, 2).reshape(len(x), -1, height, width)
            x = x + scale * branch(image).reshape(*image.shape[:2], -1).transpose(1, 2)
        tokens = self.pool.token.expand(len(x), -1, -1)
        tokens = tokens + self.pool.scale1 * self._attend(self.pool.norm1(torch.cat([tokens, x], dim=1)))
        tokens = tokens + self.pool.scale2 * self.pool.mlp(self.pool.norm2(tokens))
        x = self.pool.norm(torch.cat([tokens, x], dim=1))
        return torch.cat([head(x[:, k]) for k, head in enumerate(self.heads)], dim=1)

    def _attend(self, x: Tensor) -> Tensor:
        """Attend from the class tokens, which come first; those of classes are not attended to."""
        count = len(self.pool.token)
        keys = x[:, count:] if self.pool.classes else x
        query = self.pool.q(x[:, :count]) * x.shape[-1] ** -0.5
        return self.pool.proj((query @ self.pool.k(keys).transpose(1, 2)).softmax(-1) @ self.pool.v(keys))


def _plain(layers: nn.Sequential) -> nn.Sequential:
    """Return the layers with torch's own GELU, which is the fast one in the layout that they get here."""
    return nn.Sequential(*(nn.GELU() if isinstance(layer, PatchGELU) else layer for layer in layers))


def _layer_norm(norm: nn.Module) -> nn.LayerNorm:
    """Return the same layer norm for tokens."""
    assert isinstance(norm, nn.LayerNorm)
    plain = nn.LayerNorm(norm.normalized_shape, eps=norm.eps)
    plain.load_state_dict(norm.state_dict())
    return plain


def _row(head: ClassTokenLogits, k: int) -> nn.Linear:
    """Return the linear layer of one output for class ``k``."""
    row = nn.Linear(head.weight.shape[1], 1)
    row.load_state_dict({"weight": head.weight[k : k + 1], "bias": head.bias[k : k + 1]})
    return row


def build(name: str) -> tuple[PatchConvNet, Straightforward, nn.Module]:
    """Return a network in training, straightforward and deployed form, whose answers were compared.

    Raises:
        AssertionError: they give different answers.
    """
    torch.manual_seed(0)
    model = pv.create_model(name).eval()
    assert isinstance(model, PatchConvNet)
    assert isinstance(model.pool, AttentionPool)
    with torch.no_grad():  # as small as these start, the comparison would see little of the branches
        for block in model.blocks:
            assert isinstance(block, ColumnBlock)
            block.scale.fill_(0.1)
        model.pool.scale1.fill_(1)
        model.pool.scale2.fill_(1)
    plain, deployed = Straightforward(model).eval(), pv.fuse(model, images=2)
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), model(images), rtol=1e-4, atol=1e-4)
    return model, plain, deployed


def verdict(rows: list[dict[str, Any]]) -> bool | None:
    """Return whether the claim holds, None where the machine was too noisy to tell."""
    plain, ours = (row["peak_memory_mb"] for row in rows if row["name"] == NETWORKS[0] and row["form"] in FORMS[:2])
    if None not in (plain, ours) and ours > plain:
        return False
    return at_least([row for row in rows if row["form"] == "ours"], FASTER)


def main() -> None:
    """Measure, print a table, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"))
    parser.add_argument("--runs", type=int, default=12, help="rounds of each network")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_a_gpu = arguments.device != "cpu"

    rows: list[dict[str, Any]] = []
    for name in NETWORKS:
        model, plain, deployed = build(name)
        forms: dict[str, nn.Module] = dict(zip(FORMS, (plain, model, deployed), strict=True))
        for compile in (False, True) if on_a_gpu else (False,):
            measured = measure(
                forms,
                batch_size=arguments.batch_size,
                runs=arguments.runs,
                warmup=2,
                device=arguments.device,
                precision=arguments.precision,
                compile=compile,
            )
            for row in comparison(measured):
                form = f"{row['name']}{', compiled' if compile else ''}"
                rows.append({**row, "name": name, "form": form})

    times = ("p50_ms", "images_per_second", "peak_memory_mb", "speed_ratio", "ratio_low", "ratio_high")
    columns = ("name", "form", "runs", *times)
    conclude(CLAIM, verdict(rows), rows, columns, device=arguments.device)


if __name__ == "__main__":
    main()
