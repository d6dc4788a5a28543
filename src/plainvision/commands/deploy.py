"""Export a trained network to a file that a runtime loads, with its preprocessing and proof of its answers.

Example: plainvision deploy runs/clothing --to onnx --precision int8 --data.root clothing.zip --out deployed
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plainvision.commands import parsed, say
from plainvision.commands.options.examination import ExaminationOptions
from plainvision.commands.options.network import NetworkOptions


@dataclass(frozen=True)
class Arguments:
    """What `plainvision deploy` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    out: Path
    """The folder to write: the model's file, deploy.json and predict.py."""
    to: Literal["onnx", "openvino", "torch", "compiled", "executorch"] = "onnx"
    """The kind of file: for ONNX Runtime, for OpenVINO, a program of torch.export, one compiled by AOTInductor, or one
    for phones, by ExecuTorch."""
    precision: Literal["fp32", "tf32", "bf16", "fp16", "int8"] = "fp32"
    """What it computes in; below fp32 it has to pass the gate of --allow-loss."""
    examination: Annotated[ExaminationOptions, tyro.conf.arg(name="")] = field(default_factory=ExaminationOptions)
    """Which images calibrate and judge."""
    input: Literal["float32", "uint8"] = "float32"
    """What the file takes: normalised images (B, C, H, W), or bytes (B, H, W, C) that it normalises itself."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the file will run."""
    any_size: bool = False
    """Leave height and width of the images open, as the number of images always is."""
    least_delegated: float = 0.95
    """Of executorch, the least share of the operations that XNNPACK has to compute."""


def main(words: list[str]) -> None:
    """Export, and print the report."""
    arguments = parsed(Arguments, words, "deploy", __doc__)

    import plainvision as pv

    found = arguments.network.load()
    wanted = arguments.examination
    examined = arguments.precision != "fp32" or "root" in wanted.data
    if examined:
        found.refuse_sets("the gate of --precision and --data.root")
    examination, classes = (
        wanted.load(found, calibrating=arguments.precision == "int8") if examined else (None, found.classes or ())
    )
    report = pv.deploy.export(
        found.model,
        arguments.out,
        preprocessing=pv.deploy.Preprocessing.of(wanted.prepared(found)),
        format=arguments.to,
        precision=arguments.precision,
        classes=classes,
        temperature=found.temperature,
        threshold=found.threshold,
        input=arguments.input,
        any_size=arguments.any_size,
        device=arguments.device,
        examination=examination,
        least_delegated=arguments.least_delegated,
    )
    say(str(report))
