"""Export a trained network to a file that a runtime loads, with its preprocessing and proof of its answers.

Example: plainvision deploy runs/clothing --to onnx --out deployed
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plainvision.commands import parsed
from plainvision.commands.options.network import NetworkOptions


@dataclass(frozen=True)
class Arguments:
    """What `plainvision deploy` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    out: Path
    """The folder to write: the model's file, and deploy.json beside it."""
    to: Literal["onnx", "openvino", "torch"] = "onnx"
    """The kind of file: for ONNX Runtime, for OpenVINO, or a program of torch.export."""
    input: Literal["float32", "uint8"] = "float32"
    """What the file takes: normalised images (B, C, H, W), or bytes (B, H, W, C) that it normalises itself."""
    any_size: bool = False
    """Leave height and width of the images open, as the number of images always is."""


def main(words: list[str]) -> None:
    """Export, and print the report."""
    arguments = parsed(Arguments, words, "deploy", __doc__)

    import plainvision as pv

    found = arguments.network.load()
    report = pv.deploy.export(
        found.model,
        arguments.out,
        preprocessing=pv.deploy.Preprocessing.of(found.data),
        format=arguments.to,
        classes=found.classes or (),
        input=arguments.input,
        any_size=arguments.any_size,
    )
    print(report)
