"""Where a network looks: attention maps, Grad-CAM, and figures of them."""

from plainvision.explain.attention import attention_kind, attention_maps
from plainvision.explain.deletion import Deletion, deletion
from plainvision.explain.explanation import Explanation, class_names, explain_image
from plainvision.explain.grad_cam import gradcam, last_spatial_layer
from plainvision.figures.maps import class_maps, compare
from plainvision.figures.style import save

__all__ = [
    "Deletion",
    "Explanation",
    "attention_kind",
    "attention_maps",
    "class_maps",
    "class_names",
    "compare",
    "deletion",
    "explain_image",
    "gradcam",
    "last_spatial_layer",
    "save",
]
