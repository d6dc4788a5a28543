"""Export a trained network to a file that a runtime loads, with its preprocessing and proof of its answers.

A run of `plainvision detect train` is written to onnx, one of `plainvision segment train` to any format, in fp32.

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

    if command := _command_of(arguments.network):
        _deploy_task(arguments, command)
        return
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


def _command_of(network: NetworkOptions) -> str | None:
    """Return which command trained a run that does not classify: detect or segment."""
    from plainvision.tasks.learning import Detection, Segmentation
    from plainvision.training.weights_file import read_origin

    path = Path(network.words.name)
    path = path / f"{network.weights}.safetensors" if path.is_dir() else path
    origin = read_origin(path) if path.suffix == ".safetensors" and path.is_file() else None
    task = None if origin is None else origin.recipe.task
    return task.command if isinstance(task, Detection | Segmentation) else None


def _deploy_task(arguments: Arguments, command: str) -> None:
    """Export a detector or a segmenter, and print the report."""
    import plainvision as pv

    network, wanted = arguments.network, arguments.examination
    network.words.check(network.checkpoint, network.pretrained)
    if command == "detect" and arguments.to != "onnx":
        raise ValueError(
            f"{network.network} finds objects, and --to {arguments.to} holds no detector: it is written to onnx, and "
            "predict.py chooses boxes from what ONNX Runtime answers. Leave --to out; OpenVINO and TensorRT read "
            "model.onnx too."
        )
    unused = {
        f"--precision {arguments.precision}": arguments.precision != "fp32",
        f"--device {arguments.device}": arguments.device != "cpu",
        f"--input {arguments.input}": arguments.input != "float32",
        "--calibrate": wanted.calibrate is not None,
        "--data.root": "root" in wanted.data,
    }
    if given := [option for option, there in unused.items() if there]:
        raise ValueError(
            f"{given[0]} is for networks that name the one class of an image, and {network.network} was trained to "
            f"{command}: no gate compares its answers yet. Leave it out: it is exported in fp32 for the CPU, proven to "
            "answer as the network does."
        )
    found = pv.tasks.load(network.network, weights=network.weights)
    if command == "detect":
        say(str(pv.deploy.export_detector(found.network, arguments.out, classes=found.classes)))
        return
    report = pv.deploy.export_segmenter(
        found.network,
        arguments.out,
        image_size=found.data.image_size,
        channels=found.data.channels,
        format=arguments.to,
        classes=found.classes,
        least_delegated=arguments.least_delegated,
    )
    say(str(report))
