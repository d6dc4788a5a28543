"""`predict.py` of a deployed folder: it needs the runtime, numpy and Pillow, and nothing of this package."""

# Per format: imports, lines that load the model, and its logits for ``images``.
_RUNTIMES = {
    "onnx": (
        "import onnxruntime",
        """session = onnxruntime.InferenceSession(here / "model.onnx")""",
        """session.run(None, {"images": images})[0][0]""",
    ),
    "openvino": (
        "import openvino",
        """hint = {"bf16": "bf16", "fp16": "f16"}.get(about["precision"], "f32")
model = openvino.Core().compile_model(here / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": hint})""",
        "model(images)[0][0]",
    ),
    "torch": (
        "import torch",
        """model = torch.export.load(here / "model.pt2").module()""",
        "model(torch.from_numpy(images))[0].detach().numpy()",
    ),
    "compiled": (
        "import torch",
        """model = torch._inductor.aoti_load_package(str(here / "model.pt2"))""",
        "model(torch.from_numpy(images))[0].detach().numpy()",
    ),
    "executorch": (
        "import torch\nfrom executorch.runtime import Runtime",
        """model = Runtime.get().load_program(here / "model.pte").load_method("forward")""",
        "model.execute([torch.from_numpy(images)])[0][0].numpy()",
    ),
}


def prediction_script(format: str) -> str:
    """Return the script for a format."""
    imports, lines, logits = _RUNTIMES[format]
    return f'''"""Print the class of each image: python predict.py photo.jpg ..."""
import json, sys
from pathlib import Path
import numpy as np
{imports}
from PIL import Image, ImageOps
here = Path(__file__).parent
about = json.loads((here / "deploy.json").read_text())
how, side = about["preprocessing"], about["preprocessing"]["image_size"]
{lines}
def middle(image, width, height):
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
for path in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB" if how["channels"] == 3 else "L")
    image = middle(image, *(min(side, 8 * min(image.size)) for side in image.size))
    size = [int(int(side / how["crop_ratio"]) * length / min(image.size)) for length in image.size]
    image = middle(image.resize(size, Image.Resampling[how["interpolation"].upper()]), side, side)
    images = np.asarray(image).reshape(1, side, side, -1)
    if about["input"] == "float32":
        scaled = (images.astype("f4") / 255 - np.array(how["mean"], "f4")) / np.array(how["std"], "f4")
        images = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
    logits = {logits}
    print(path, (about["classes"] or range(len(logits)))[logits.argmax()])
'''
