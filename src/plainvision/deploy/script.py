"""`predict.py` of a deployed folder: it needs the runtime, numpy and Pillow, and nothing of this package."""

from plainvision.deploy.forms import Form

_OPENVINO = """hint = {"bf16": "bf16", "fp16": "f16"}.get(about["precision"], "f32")
model = openvino.Core().compile_model(here / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": hint})"""
_TORCH_ON_GPU = """from torch.export.passes import move_to_device_pass
model = move_to_device_pass(torch.export.load(here / "model.pt2"), "cuda").module()"""


def _runtime(form: Form) -> tuple[str, str, str]:
    """Return what the script imports, the lines that load the model, and its logits for ``images``."""
    device = form.device
    provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
    found = {
        "onnx": (
            "import onnxruntime",
            f"""session = onnxruntime.InferenceSession(here / "model.onnx", providers=["{provider}"])""",
            """session.run(None, {"images": images})[0][0]""",
        ),
        "openvino": ("import openvino", _OPENVINO, "model(images)[0][0]"),
        "torch": (
            "import torch",
            """model = torch.export.load(here / "model.pt2").module()""" if device == "cpu" else _TORCH_ON_GPU,
            f"""model(torch.from_numpy(images).to("{device}"))[0].detach().cpu().numpy()""",
        ),
        "compiled": (
            "import torch",
            """model = torch._inductor.aoti_load_package(str(here / "model.pt2"))""",
            f"""model(torch.from_numpy(images).to("{device}"))[0].detach().cpu().numpy()""",
        ),
        "executorch": (
            "import torch\nfrom executorch.runtime import Runtime",
            """model = Runtime.get().load_program(here / "model.pte").load_method("forward")""",
            "model.execute([torch.from_numpy(images)])[0][0].numpy()",
        ),
    }
    return found[form.format]


# The class of an image with its confidence, or its labels; a softmax and sigmoids that do not overflow.
_ONE_CLASS = """names, scaled = about["classes"] or range(len(logits)), logits.astype("f8") / about["temperature"]
    print(path, names[logits.argmax()], round(1 / np.exp(scaled - scaled.max()).sum(), 6))"""
_LABELS = """p, names = np.exp(-np.logaddexp(0, -logits.astype("f8") / about["temperature"])), about["classes"]
    print(path, *(f"{names[i]} {p[i]:.6f}" for i in np.argsort(-p, kind="stable") if p[i] >= about["threshold"]))"""


def prediction_script(form: Form, *, labels: bool = False) -> str:
    """Return the script for a form of a network that names a class, or gives an image a set of ``labels``."""
    imports, lines, logits = _runtime(form)
    what = "labels" if labels else "class"
    return f'''"""Print the {what} of each image, with confidence: python predict.py photo.jpg ..."""
import json, pathlib, sys
import numpy as np
{imports}
from PIL import Image, ImageOps
about = json.loads(((here := pathlib.Path(__file__).parent) / "deploy.json").read_text())
how, side = about["preprocessing"], about["preprocessing"]["image_size"]
{lines}
def middle(image, width, height):
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
for path in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB" if how["channels"] == 3 else "L")
    image = middle(image, *(min(side, 8 * min(image.size)) for side in image.size))
    whole, squash = int(side / how["crop_ratio"]), how["resize"] == "squash"
    size = [whole if squash else whole * length // min(image.size) for length in image.size]
    image = middle(image.resize(size, Image.Resampling[how["interpolation"].upper()]), side, side)
    images = np.asarray(image).reshape(1, side, side, -1)
    if about["input"] == "float32":
        scaled = (images.astype("f4") / 255 - np.array(how["mean"], "f4")) / np.array(how["std"], "f4")
        images = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
    logits = {logits}
    {_LABELS if labels else _ONE_CLASS}
'''
