"""Detection and segmentation as tasks of a training run. No torch here: the command line reads their settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from plainvision.training.task import Task

if TYPE_CHECKING:
    import torch
    from torch import nn

    from plainvision.tasks.average_precision import DetectionScores
    from plainvision.tasks.overlap import SegmentationScores
    from plainvision.training.recipe import Recipe

LONGEST = 5 / 3
"""The longer side of an image, as a detector sees it, over the usual shorter one: as 1333 and 800."""


_FOR_WHOLE_IMAGES = (
    *("loss", "bce_threshold", "class_weights", "data.validation_share", "data.folds", "data.fold", "data.split_seed"),
    *("data.split_fingerprint", "data.labels", "data.class_map", "data.sampling", "data.train_per_class"),
    *("data.validation_per_class", "data.crop_ratio", "data.resize", "data.interpolation", "data.allow_pipes"),
    *("augment.policy", "augment.random_erasing", "augment.mixup", "augment.cutmix", "augment.mix_probability"),
    "augment.switch_probability",
)


class SceneTask(Task):
    """What detection and segmentation share: batches of scenes, and a backbone to start from."""

    unused: ClassVar[tuple[str, ...]] = _FOR_WHOLE_IMAGES
    """Fields of a recipe that would do nothing; one that is no default is refused."""
    freeze_norms: bool

    def splits(self, recipe: "Recipe", rank: int, processes: int) -> Any:
        self._refuse(recipe)
        return self.scenes(recipe, rank, processes)

    def _refuse(self, recipe: "Recipe") -> None:
        """Raise a `ValueError` for what a recipe asks of images with one label each, and would do nothing here."""
        name, usual = type(self).__name__, type(recipe)(recipe.name, recipe.model)
        if recipe.data.root == "digits":
            raise ValueError(f"{name} needs images of its own. Name their folder or archive with data.root.")
        for field in self.unused:
            value, default = map(attrgetter(field), (recipe, usual))
            if value and value != default:
                raise ValueError(
                    f"{field}={value!r} is for images with one label each, and {name} has none. Leave it out; a "
                    "validation split is a folder and a file of its own."
                )

    def scenes(self, recipe: "Recipe", rank: int, processes: int) -> Any:
        """Return the batches of both splits."""
        raise NotImplementedError

    @staticmethod
    def share(recipe: "Recipe", rank: int, processes: int) -> dict[str, int]:
        """Return which part of the validation scenes a process evaluates."""
        # A pass through shards takes all processes, so that each has to have as many images: all of them.
        return {} if recipe.machine.fsdp else {"rank": rank, "processes": processes}

    def load_start(self, model: "nn.Module", recipe: "Recipe") -> None:
        from plainvision.tasks.starting import load_backbone_weights

        load_backbone_weights(model, recipe)

    def first_lines(self, recipe: "Recipe", training: Any, validation: Any) -> Iterator[str]:
        yield training.scenes.first_line()
        yield validation.scenes.first_line()


@dataclass(frozen=True)
class Detection(SceneTask):
    """Find objects: their boxes, and their masks too by a Mask R-CNN. The best weights are those of the best box AP."""

    kind: Literal["retinanet", "mask_rcnn"] = "retinanet"
    """Boxes alone, or boxes and masks."""
    width: Annotated[int, 8, 4096] = 256
    """Channels of the feature pyramid and of the heads on it."""
    anchor_sizes: tuple[tuple[int, ...], ...] | None = None
    """Sizes of the anchors of each of five levels, in pixels of the resized image; None takes torchvision's, and on the
    command line `fit` those of the training boxes."""
    rois_per_image: Annotated[int, 8, 10**4] = 512
    """Proposals of each image that a Mask R-CNN learns boxes and masks from."""
    freeze_norms: bool = False
    """Fix the batch norms of the backbone: right where it starts from trained weights, wrong where it does not."""

    score_name = "box AP"
    command = "detect"
    unused = (*_FOR_WHOLE_IMAGES, "num_classes", "label_smoothing")

    def scenes(self, recipe: "Recipe", rank: int, processes: int) -> Any:
        from plainvision.tasks.batches import TrainingScenes, ValidationScenes
        from plainvision.tasks.boxes import BoxScenes
        from plainvision.tasks.transforms import TrainingTransform

        masks = self.kind == "mask_rcnn"
        scenes = BoxScenes(recipe.data, "train", masks=masks)
        transform = TrainingTransform(recipe.augment)
        training = TrainingScenes(recipe, scenes, transform, rank=rank, processes=processes)
        known = BoxScenes(recipe.data, "validation", masks=masks, classes=scenes.classes)
        own = max(1, recipe.batch_size // processes)
        return training, ValidationScenes(recipe.data, known, own, **self.share(recipe, rank, processes))

    def build(self, recipe: "Recipe", classes: int) -> "nn.Module":
        from plainvision.tasks.detection import detector
        from plainvision.tasks.pyramid import of_any_size

        size = recipe.data.image_size
        network: Any = detector(
            of_any_size(recipe.model, **recipe.network_options(0)),
            self.kind,
            num_classes=classes,
            width=self.width,
            freeze_norms=self.freeze_norms,
            anchor_sizes=self.anchor_sizes,
            rois_per_image=self.rois_per_image,
            min_size=size,
            max_size=round(size * LONGEST),
        )
        network.transform.image_mean, network.transform.image_std = list(recipe.data.mean), list(recipe.data.std)
        return network

    def check_network(self, model: "nn.Module", recipe: "Recipe", classes: int, per_pass: int) -> None:
        from plainvision.tasks.starting import check_forward

        check_forward(lambda image: model.eval()([image]), model, recipe)

    def objective(self, recipe: "Recipe", training: Any) -> Any:
        from plainvision.tasks.objectives import DetectionLoss

        return DetectionLoss()

    def noise(self, recipe: "Recipe", training: Any) -> Any:
        from plainvision.tasks.noise import noise_with_boxes

        return noise_with_boxes(recipe, training.scenes, masks=self.kind == "mask_rcnn")

    def evaluate(
        self, model: "nn.Module", validation: Any, *, classes: tuple[str, ...], device: "torch.device", total: Any
    ) -> "DetectionScores":
        from plainvision.tasks.average_precision import evaluate_detector

        masks = self.kind == "mask_rcnn"
        shared = validation.shared
        return evaluate_detector(model, validation, validation.scenes, device=device, masks=masks, shared=shared)

    def doubts(self, last: Any, raw: Any, metrics: Sequence[dict[str, Any]]) -> list[str]:
        if last.box.ap50 > 1:
            return []
        return [
            f"The detector has found next to nothing: AP50 is {last.box.ap50:.2f} % on {last.images} images. Give more "
            "epochs, weights to start from (start_from), or anchors that fit the boxes (`--anchor-sizes fit`)."
        ]


@dataclass(frozen=True)
class Segmentation(SceneTask):
    """Name the class of each pixel. The best weights are those of the best mean intersection over union."""

    kind: Literal["upernet"] = "upernet"
    """The decoder."""
    width: Annotated[int, 8, 4096] = 512
    """Channels of the decoder."""
    zero_ignored: bool = False
    """In the maps of labels 0 is no class and 1 the first, as in ADE20k; 255 is never one."""
    freeze_norms: bool = False
    """Fix the batch norms of the backbone: right where it starts from trained weights, wrong where it does not."""

    score_name = "mIoU"
    command = "segment"

    def scenes(self, recipe: "Recipe", rank: int, processes: int) -> Any:
        from plainvision.tasks.batches import TrainingScenes, ValidationScenes
        from plainvision.tasks.label_maps import LabelScenes
        from plainvision.tasks.transforms import TrainingTransform

        scenes = LabelScenes(recipe.data, "train", zero_ignored=self.zero_ignored, num_classes=recipe.num_classes)
        transform = TrainingTransform(recipe.augment, recipe.data.image_size)
        training = TrainingScenes(recipe, scenes, transform, rank=rank, processes=processes)
        known = LabelScenes(recipe.data, "validation", zero_ignored=self.zero_ignored, classes=scenes.classes)
        return training, ValidationScenes(recipe.data, known, 1, **self.share(recipe, rank, processes))

    def build(self, recipe: "Recipe", classes: int) -> "nn.Module":
        import torch

        from plainvision.tasks.pyramid import of_any_size
        from plainvision.tasks.segmentation import segmenter

        network = segmenter(
            of_any_size(recipe.model, **recipe.network_options(0)),
            self.kind,
            num_classes=classes,
            width=self.width,
            freeze_norms=self.freeze_norms,
        )
        network.mean = torch.tensor(recipe.data.mean)[:, None, None]
        network.std = torch.tensor(recipe.data.std)[:, None, None]
        return network

    def check_network(self, model: "nn.Module", recipe: "Recipe", classes: int, per_pass: int) -> None:
        from plainvision.tasks.starting import check_forward

        if per_pass < 2:
            raise ValueError(
                f"batch_size={recipe.batch_size} with machine.accumulate={recipe.machine.accumulate} passes one image "
                "at a time, and the decoder of a segmenter needs two to normalise by. Raise batch_size, or lower "
                "machine.accumulate."
            )
        check_forward(lambda image: model.eval()(image[None]), model, recipe)

    def objective(self, recipe: "Recipe", training: Any) -> Any:
        from plainvision.tasks.objectives import SegmentationLoss

        return SegmentationLoss(recipe.label_smoothing)

    def noise(self, recipe: "Recipe", training: Any) -> Any:
        from plainvision.tasks.noise import noise_with_labels

        return noise_with_labels(recipe, len(training.classes))

    def evaluate(
        self, model: "nn.Module", validation: Any, *, classes: tuple[str, ...], device: "torch.device", total: Any
    ) -> "SegmentationScores":
        from plainvision.tasks.overlap import evaluate_segmenter

        own = total if validation.shared else None
        return evaluate_segmenter(model, validation, classes, size=validation.image_size, device=device, total=own)

    def doubts(self, last: Any, raw: Any, metrics: Sequence[dict[str, Any]]) -> list[str]:
        named = sum(value > 0 for value in last.per_class.values())
        if named > 1 or len(last.per_class) < 2:
            return []
        return [
            f"The segmenter names one class alone: mean IoU is {last.miou:.2f} % over {len(last.per_class)} classes. "
            "Give more epochs, or weights to start from (start_from)."
        ]
