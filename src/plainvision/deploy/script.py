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


def segmentation_script(form: Form) -> str:
    """Return the script for a form of a network that names the class of each pixel; `plainvision segment` as numpy."""
    imports, lines, logits = _runtime(form)
    return f'''"""Write the class of each pixel, from 0, into photo.classes.png here: python predict.py photo.jpg ..."""
import json, pathlib, sys
import numpy as np
{imports}
from PIL import Image, ImageOps
about = json.loads(((here := pathlib.Path(__file__).parent) / "deploy.json").read_text())
side, mode = about["preprocessing"]["image_size"], "RGB" if about["preprocessing"]["channels"] == 3 else "L"
{lines}
def resized(plane, axis, length):  # each value between the nearest two
    place = np.clip((np.arange(length) + 0.5) * plane.shape[axis] / length - 0.5, 0, plane.shape[axis] - 1)
    first = place.astype(int)
    share = (place - first).astype("f4").reshape((-1, 1) if axis == 0 else (1, -1))
    return plane.take(first, axis) * (1 - share) + plane.take(first + (share.ravel() > 0), axis) * share
for path in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(mode)
    size = [max(32, round(s * (side / min(image.size)) / 32) * 32) if about["any_size"] else side for s in image.size]
    planes = [Image.fromarray(np.asarray(plane, "f4") / 255) for plane in image.split()]
    images = np.stack([np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes])[None]
    logits = {logits}
    shares = np.exp(logits - logits.max(0))
    best, classes = np.zeros(image.size[::-1], "f4"), np.zeros(image.size[::-1], "u1")
    for number, plane in enumerate(shares / shares.sum(0)):
        whole = resized(resized(plane, 0, image.height), 1, image.width)
        best, classes = np.maximum(best, whole), np.where(whole > best, number, classes).astype("u1")
    Image.fromarray(classes).save(f"{{pathlib.Path(path).stem}}.classes.png")
    print(path, *(f"{{about['classes'][i]}} {{(classes == i).mean():.1%}}" for i in np.unique(classes)))
'''


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
