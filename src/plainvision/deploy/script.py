"""`predict.py` of a deployed folder: it needs the runtime, numpy and Pillow, and nothing of this package."""

_RUNTIMES = {
    "onnx": (
        "import onnxruntime",
        """session = onnxruntime.InferenceSession(here / "model.onnx")
run = lambda images: session.run(None, {"images": images})[0]""",
    ),
    "openvino": (
        "import openvino",
        """hint = {"INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp16": "f16"}.get(about["precision"], "f32")}
model = openvino.Core().compile_model(here / "model.xml", "CPU", hint)
run = lambda images: model(images)[0]""",
    ),
    "torch": (
        "import torch",
        """model = torch.export.load(here / "model.pt2").module()
run = lambda images: model(torch.from_numpy(images)).detach().numpy()""",
    ),
    "compiled": (
        "import torch",
        """model = torch._inductor.aoti_load_package(str(here / "model.pt2"))
run = lambda images: model(torch.from_numpy(images)).detach().numpy()""",
    ),
    "executorch": (
        "import torch\nfrom executorch.runtime import Runtime",
        """model = Runtime.get().load_program(here / "model.pte").load_method("forward")
run = lambda images: model.execute([torch.from_numpy(images)])[0].numpy()""",
    ),
}


def prediction_script(format: str) -> str:
    """Return the script for a format."""
    imports, lines = _RUNTIMES[format]
    return f'''"""Print the class of each image and its logit: python predict.py photo.jpg ..."""
import json, sys
from pathlib import Path
import numpy as np
{imports}
from PIL import Image, ImageOps
here = Path(__file__).parent
about = json.loads((here / "deploy.json").read_text())
how, mean, std = about["preprocessing"], *(np.array(about["preprocessing"][key], "f4") for key in ("mean", "std"))
{lines}
def middle(image, width, height):
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
for path in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB" if how["channels"] == 3 else "L")
    image = middle(image, *(min(side, 8 * min(image.size)) for side in image.size))
    short = int(how["image_size"] / how["crop_ratio"])
    size = [int(short * side / min(image.size)) for side in image.size]
    image = middle(image.resize(size, Image.Resampling[how["interpolation"].upper()]), *[how["image_size"]] * 2)
    images = np.asarray(image).reshape(1, *image.size, -1)
    if about["input"] == "float32":
        images = ((images.astype("f4") / 255 - mean) / std).transpose(0, 3, 1, 2)
    logits = run(np.ascontiguousarray(images))[0]
    print(path, (about["classes"] or range(len(logits)))[logits.argmax()], round(float(logits.max()), 3))
'''
