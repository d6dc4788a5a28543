"""COCO's annotations, read as a stranger's data: what is damaged is counted and left out, or told.

Shapes   N objects
"""

import math
import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plainvision.data.archives import Store, names_of
from plainvision.files import plain_object

# COCO's own file of its training images has 450 MB.
_MOST_BYTES = 2**30
_SMALLEST = 1.0  # of a box's sides, in pixels: what is smaller has nothing to see


@dataclass(frozen=True)
class Thing:
    """One object in an image."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 within the image."""
    label: int
    """Its class, from 0."""
    crowd: bool
    """Whether it is a crowd, which is not learned, and where nothing that is found counts as wrong."""
    area: float
    """In pixels, as the file says."""
    outline: Any = field(repr=False, compare=False)
    """The file's own `segmentation`, None without."""


@dataclass(frozen=True)
class Scene:
    """An image and its objects."""

    path: str
    """Its place in the store."""
    width: int
    height: int
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Annotations:
    """What a file says, less what cannot be."""

    classes: tuple[str, ...]
    """By the order of their numbers."""
    category_ids: tuple[int, ...]
    """The file's number of each class."""
    scenes: tuple[Scene, ...]
    left_out: dict[str, int]
    """How often something was left out, by the reason."""


def annotation_places(split: str) -> tuple[str, ...]:
    """Return where data sets keep the annotations of a split, below their root."""
    return (
        f"{split}.json",
        f"annotations/instances_{split}.json",
        f"annotations/{split}.json",
        f"{split}/_annotations.coco.json",
        f"{split}/annotations.json",
    )


def read_annotations(store: Store, split: str, where: str, classes: Sequence[str] | None = None) -> Annotations:
    """Return the annotations of ``split``; messages call the data set ``where``.

    The classes are those of the file, or ``classes``, where a network has learned others before.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no COCO file, too long, has no image that is there, or another class than ``classes``.
    """
    place, text = _found(store, split, where)
    name = f"{place} of {where}"
    try:
        plain = plain_object(text)
        images, things, kinds = (_objects(plain, key) for key in ("images", "annotations", "categories"))
        ids = [_number(kind, "id") for kind in kinds]
        names = [str(kind["name"]) for kind in kinds]
    except (ValueError, TypeError, KeyError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{name} is no COCO file: {why}. It must be an object with the lists images, annotations and categories, "
            "as in COCO's instances_train2017.json."
        ) from error
    order = sorted(range(len(ids)), key=ids.__getitem__)
    own = tuple(names[i] for i in order)
    for what, values in (("categories have the id", ids), ("categories are called", names)):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"{name}: two {what} {twice[0]!r}. Give each its own.")
    if not own:
        raise ValueError(f"{name} names no category: there is nothing to detect. Add them to its list categories.")
    wanted = own if classes is None else tuple(classes)
    if unknown := [one for one in own if one not in wanted]:
        raise ValueError(
            f"{name} has the class {unknown[0]!r}, and the network knows {names_of(wanted)}. Give the data that it was "
            "trained for, or train it on this data."
        )
    labels = {ids[i]: wanted.index(names[i]) for i in order}
    back = {label: number for number, label in labels.items()}
    category_ids = tuple(back.get(label, max(ids) + 1 + label) for label in range(len(wanted)))
    left_out: Counter[str] = Counter()
    scenes = _scenes(store, place, split, images, _by_image(things, labels, images, left_out), left_out, name)
    return Annotations(wanted, category_ids, scenes, dict(left_out))


def _found(store: Store, split: str, where: str) -> tuple[str, bytes]:
    tops = ["", *sorted({f"{folder}/" for folder in store.listing.folders if folder and "/" not in folder})]
    for place in (top + place for top in tops for place in annotation_places(split)):
        try:
            with store.open(place, _MOST_BYTES // 4) as file:
                text = file.read(_MOST_BYTES + 1)
        except (KeyError, OSError):
            continue
        if len(text) > _MOST_BYTES:
            raise ValueError(f"{place} of {where} is longer than {_MOST_BYTES:,} bytes. Split it.")
        return place, text
    raise FileNotFoundError(
        f"there are no annotations of the split {split!r} in {where}: none of {', '.join(annotation_places(split))}. "
        "Give COCO's form, or name the split with data.train_split and data.validation_split."
    )


def _objects(plain: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = plain[key]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"{key} is no list of objects")
    return found


def _number(one: Mapping[str, Any], key: str) -> int:
    if type(one[key]) is not int:
        raise ValueError(f"{key} is {one[key]!r:.60}, and no whole number")
    return one[key]


def _by_image(
    things: Sequence[Mapping[str, Any]],
    labels: Mapping[int, int],
    images: Sequence[Mapping[str, Any]],
    left_out: Counter[str],
) -> Mapping[Any, list[Thing]]:
    """Return the objects of each image by its id, counting what cannot be one."""
    sizes = {image.get("id"): image for image in images if isinstance(image.get("id"), int | str)}
    found: defaultdict[Any, list[Thing]] = defaultdict(list)
    for thing in things:
        owner, kind = thing.get("image_id"), thing.get("category_id")
        if not isinstance(owner, int | str) or owner not in sizes:
            left_out["an annotation of an image that the file does not list"] += 1
        elif not isinstance(kind, int) or kind not in labels:
            left_out["an annotation of a category that the file does not list"] += 1
        elif (box := _box(thing.get("bbox"), sizes[owner])) is None:
            left_out["a box without area, or outside of its image"] += 1
        else:
            area = thing.get("area")
            if not isinstance(area, int | float) or not 0 < area < math.inf:
                area = (box[2] - box[0]) * (box[3] - box[1])
            crowd, outline = bool(thing.get("iscrowd")), thing.get("segmentation") or None
            found[owner].append(Thing(box, labels[kind], crowd, float(area), outline))
    return found


def _box(given: Any, image: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Return the corners of a box within its image, None where nothing is left of it."""
    numbers = isinstance(given, list) and len(given) == 4 and all(type(one) in (int, float) for one in given)
    width, height = image.get("width"), image.get("height")
    if not numbers or type(width) is not int or type(height) is not int:
        return None
    x, y, w, h = given
    x1, y1, x2, y2 = max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)
    if not (x2 - x1 >= _SMALLEST and y2 - y1 >= _SMALLEST):
        return None
    return x1, y1, x2, y2


def _scenes(
    store: Store,
    place: str,
    split: str,
    images: Sequence[Mapping[str, Any]],
    things: Mapping[Any, list[Thing]],
    left_out: Counter[str],
    name: str,
) -> tuple[Scene, ...]:
    base = posixpath.dirname(place)
    top = posixpath.dirname(base) if posixpath.basename(base) in ("annotations", split) else base
    folders = [posixpath.join(top, folder) for folder in (split, f"images/{split}", "images", "")]
    scenes: list[Scene] = []
    seen: dict[str, Any] = {}
    for image in images:
        file, width, height = image.get("file_name"), image.get("width"), image.get("height")
        if not isinstance(file, str) or type(width) is not int or type(height) is not int or min(width, height) < 1:
            left_out["an image without a file name, a width and a height"] += 1
            continue
        # Only what the store lists is opened, so that no name leads out of it.
        paths = [posixpath.normpath(posixpath.join(folder, file)) for folder in folders]
        path = next((path for path in paths if path in store.listing.files), None)
        if path is None:
            left_out["an image whose file is missing"] += 1
            continue
        if path in seen:
            raise ValueError(
                f"{name}: two images are called {file!r}, ids {seen[path]!r:.40} and {image.get('id')!r:.40}. Give "
                "each file one entry, with all its objects."
            )
        seen[path] = image.get("id")
        scenes.append(Scene(path, width, height, tuple(things.get(image.get("id"), ()))))
    if len({repr(one) for one in seen.values()}) < len(seen):
        raise ValueError(f"{name}: two images have the same id, so that nobody knows whose an object is. Number them.")
    if not scenes:
        missing = f"{sum(left_out.values())} entries were left out" if left_out else "its list images is empty"
        raise ValueError(
            f"{name} has no image that is there: {missing}. The files belong into the folder {split!r} beside it, or "
            f"into images/{split}."
        )
    return tuple(scenes)
