"""Write a network in a form, with its description, and report how the form compares."""

import copy
import hashlib
import importlib.metadata
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

import plainvision
from plainvision.deploy.blame import failing_module
from plainvision.deploy.comparing import compare, example, images_to_compare, short
from plainvision.deploy.delegation import Delegation
from plainvision.deploy.formats import FORMATS, Format, format_called
from plainvision.deploy.forms import DTYPES, ByteImages, ChannelsLast, Form, LowerPrecision, with_any_pooling
from plainvision.deploy.gate import Gate
from plainvision.deploy.quantizing import SCHEMES, Calibration, quantize
from plainvision.deploy.running import Precision, Running
from plainvision.deploy.script import prediction_script, segmentation_script
from plainvision.deploy.source import Source
from plainvision.files import write_json, write_text
from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.inspection.devices import usable_device

DESCRIPTION = "deploy.json"
# Files of a deployed folder that say something of the model and are no part of it.
_BESIDE = (DESCRIPTION, "report.html", "predict.py", "tuning.json")


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how near its answers are to the network's."""

    folder: Path
    """Where the file and its description are."""
    format: str
    """onnx, openvino, torch, compiled or executorch."""
    size_mb: float
    """Size of the model's files, in MB (1e6 bytes)."""
    images: int
    """Images that both answered, random ones where none were given."""
    largest_absolute_error: float
    """Largest difference of an output."""
    largest_relative_error: float
    """The same over the largest output."""
    argmax_agreement: float
    """Share of the images for which both name the same class."""
    precision: Precision = "fp32"
    """What the file computes in."""
    scheme: str | None = None
    """Of int8, how it was quantized."""
    gate: Gate | None = None
    """How its classes compare with the network's; None where no images were given to judge by."""
    unfused: str | None = None
    """Why nothing was folded before; None where it was."""
    delegation: Delegation | None = None
    """Of executorch, what XNNPACK computes."""

    def __str__(self) -> str:
        form = f"{self.format} {self.precision}" + (f" ({self.scheme})" if self.scheme else "")
        told = (
            f"{form}, {self.size_mb:.2f} MB in {self.folder}; on {self.images} images the largest difference is "
            f"{self.largest_absolute_error:.2e} ({self.largest_relative_error:.2e} of the largest output), same class "
            f"for {self.argmax_agreement:.0%}"
        )
        if self.unfused is not None:
            told += f"\nit is written as it was: {self.unfused.rstrip('.')}"
        if self.delegation is not None:
            told += f"\n{self.delegation}; the file takes {self.delegation.most_images} images at once"
        return told if self.gate is None else f"{told}\n{self.gate}"


def write_form(source: Source, form: Form, made: Path, *, sample: Tensor | None = None) -> ExportReport:
    """Write a form into the new folder ``made``, with its description, and return how it compares.

    Nothing is refused for its accuracy: that is up to who reads the report.

    Raises:
        ValueError: the network cannot be exported so, or an fp32 file answers differently.
        OSError: the folder cannot be written.
    """
    kind = format_called(form.format, form.precision, form.device)
    usable_device(form.device)
    if form.precision == "int8" and (source.examination is None or not source.examination.calibration):
        raise ValueError(
            "int8 needs images to calibrate on, and none were given. Give a folder of them: --calibrate FOLDER, or an "
            "`Examination`."
        )
    if form.any_size and not kind.any_size:
        others = ", ".join(name for name, one in FORMATS.items() if one.any_size)
        raise ValueError(
            f"{kind.name} plans memory for images of one size. Leave any_size out, or export to one of {others}."
        )
    truth = ByteImages(source.deployed, source.preprocessing).eval() if form.input == "uint8" else source.deployed
    images = images_to_compare(form, source.preprocessing, sample)
    made.mkdir(parents=True)
    network = _as_asked(source, form)
    scheme, delegation = form.scheme, None
    if form.precision == "int8":
        with tempfile.TemporaryDirectory(prefix="fp32.", dir=made.parent) as beside:
            exact = Path(beside) / kind.file
            _write(source, form, kind, network, images, exact)
            scheme = _quantize(source, form, kind, exact, made)
    else:
        delegation = _write(source, form, kind, network, images, made / kind.file)
    if delegation is not None:
        delegation.check(form.least_delegated)
    figures, run = compare(truth, kind, form, made, images)
    gate = None
    if source.reference is not None:
        gate = source.reference.gate(lambda images: run(form.takes(images, source.preprocessing))[0])
    report = ExportReport(
        made,
        kind.name,
        precision=form.precision,
        scheme=scheme,
        gate=gate,
        unfused=source.unfused,
        delegation=delegation,
        **figures,
    )
    write_text(made / "predict.py", _script(source, form))
    write_json(made / DESCRIPTION, _description(source, form, kind, made, report))
    return report


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the model's files in ``folder``."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in _BESIDE:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _as_asked(source: Source, form: Form) -> nn.Module:
    """Return the network that is written: in the form's precision and layout, taking what it takes."""
    network = with_any_pooling(source.deployed) if form.any_size else copy.deepcopy(source.deployed)
    if form.precision in DTYPES and form.format != "openvino":  # which chooses as it loads
        network = LowerPrecision(network, DTYPES[form.precision])
    if form.channels_last:
        network = ChannelsLast(network)
    if form.input == "uint8":
        network = ByteImages(network, source.preprocessing)
    return network.eval()


def _write(
    source: Source, form: Form, kind: Format, network: nn.Module, images: Tensor, path: Path
) -> Delegation | None:
    try:
        return kind.write(network, example(images), path, form.any_size)
    except OSError:
        raise
    except Exception as error:  # exporters raise nearly anything
        name = type(source.model).__name__
        module = failing_module(
            kind,
            source.deployed,
            example(images_to_compare(Form(), source.preprocessing, None)),
            path.with_name(f"part{path.suffix}"),
        )
        raise ValueError(
            f"{name}{module and f', at its module {module},'} cannot be exported to {kind.name}: {short(error)}. "
            + ("Leave any_size out, or e" if form.any_size else "E")
            + "xport it to another format."
        ) from error


def _script(source: Source, form: Form) -> str:
    if source.task == "segmentation":
        return segmentation_script(form)
    return prediction_script(form, labels=source.threshold is not None)


def _quantize(source: Source, form: Form, kind: Format, exact: Path, made: Path) -> str:
    """Quantize the file ``exact`` into ``made``, and return by which scheme: the one that keeps calibration images."""
    assert source.examination is not None
    given = source.examination
    images = [form.takes(one, source.preprocessing) for one in given.calibration]
    calibration = Calibration(images, given.calibration_labels, given.allow_loss or 100)
    schemes = (form.scheme,) if form.scheme else SCHEMES[kind.name]
    best: tuple[tuple[int, float], str] | None = None
    wanted = np.concatenate([run[0] for run in map(kind.open(exact, Running()), images)])
    for scheme in schemes:
        tried = exact.with_name("tried") / kind.file
        tried.parent.mkdir(exist_ok=True)
        try:
            quantize(kind.name, exact, tried, calibration, scheme)
        except OSError:
            raise
        except Exception as error:  # so do their tools
            raise ValueError(
                f"{kind.name} cannot be quantized by {scheme}: {short(error)}. Export it in another precision."
            ) from error
        found = np.concatenate([run[0] for run in map(kind.open(tried, Running("int8")), images)])
        changed = int((found.argmax(1) != wanted.argmax(1)).sum())
        rank = (changed, float(np.square(found - wanted).mean()))
        if best is None or rank < best[0]:
            best = (rank, scheme)
            for path in tried.parent.iterdir():
                shutil.move(path, made / path.name)
    assert best is not None
    return best[1]


def _description(source: Source, form: Form, kind: Format, made: Path, report: ExportReport) -> dict[str, Any]:
    side, channels = source.preprocessing.image_size, source.preprocessing.channels
    packages = ("torch", *kind.packages)
    figures = ("size_mb", "images", "largest_absolute_error", "largest_relative_error", "argmax_agreement")
    return {
        "task": source.task,
        "format": kind.name,
        "precision": form.precision,
        "scheme": report.scheme,
        "channels_last": form.channels_last,
        "device": form.device,
        "compile": form.compile,
        "graph": form.graph,
        "input": form.input,
        "any_size": form.any_size,
        "preprocessing": asdict(source.preprocessing),
        "classes": list(source.classes),
        "temperature": source.temperature,
        "threshold": source.threshold,
        "network": type(source.model).__name__,
        "parameters": count_parameters(source.deployed),
        "macs": count_macs(source.deployed, (side, side), channels),
        "unfused": source.unfused,
        "source": source.fingerprint(),
        "files": file_hashes(made),
        "proof": {name: getattr(report, name) for name in figures},
        "gate": None if report.gate is None else report.gate.to_dict(),
        "delegation": None if report.delegation is None else asdict(report.delegation),
        "versions": {"plainvision": plainvision.__version__} | {p: importlib.metadata.version(p) for p in packages},
    }
