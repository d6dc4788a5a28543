"""Class folders, on disk or packed: SPLIT/CLASS/image.jpg in a folder, a .zip or a .tar."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plainvision.data.archives import Listing, names_of
from plainvision.data.decoding import EXTENSIONS, is_image, looks_like_image

# What the validation split is called where nobody says it; "test" only where there is none of these.
USUAL_NAMES = ("validation", "val", "valid")


class MissingSplit(ValueError):
    """The root has no split of that name."""


@dataclass(frozen=True)
class ClassFolders:
    """What `find_classes` finds in the folder of a split."""

    base: str
    """The folder that holds the class folders; "" is the top."""
    is_split: bool
    """Whether it is called like the split; else the classes lie in no split."""
    classes: dict[str, list[str]]
    """The paths of the images of each class, both in order."""
    stored: dict[str, str]
    """Where the file of a path lies that leads through a link."""
    left_out: list[str]
    """A `PATH (why)` for whatever else looks like an image."""
    others: dict[str, int]
    """How many files do not look like images, by the ending of their names."""
    beside: int
    """How many images lie beside the class folders, and so in no class."""


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of classes sorted: by value where all are numbers, else by letters."""
    names = list(names)
    return sorted(names, key=lambda name: (int(name), name)) if all(map(str.isdecimal, names)) else sorted(names)


def order_told(names: Sequence[str]) -> str:
    """Return in words which order names of classes are in, and what the first labels are, for weights without names."""
    how = "in the order of the data"
    if list(names) == in_order(names):
        how = "sorted by value" if all(map(str.isdecimal, names)) else "sorted by letters"
    some = ", ".join(f"{number} is {name}" for number, name in enumerate(names[:3]))
    return f"{len(names)} classes, {how}: label {some}. --data.class-map FILE gives another order"


def find_classes(listing: Listing, split: str, *, where: str, option: str, plain: bool) -> ClassFolders:
    """Return the images of each class of ``split``, and what else is in its folder.

    The folder called ``split`` may lie at any depth. Where there is none and ``plain`` allows it, the class
    folders are those at the top, or below the one folder that wraps them all. Two Unicode spellings of one name are
    one class. A link to a file or a folder outside of the split stands for it; one to a place inside it would give an
    image twice or in two classes, and is left out.

    Raises:
        MissingSplit: no such split.
        ValueError: two of them, no class folders in it, a class folder without images, or one that is
            a link into another.
    """
    base = _split_folder(listing, split, where)
    is_split = base is not None
    if base is None:
        base = _plain_folder(listing)
        if base is None or not plain:
            raise MissingSplit(_missing_split(listing, split, where, option, looks_plain=base is not None))
    prefix = f"{base}/" if base else ""
    paths, left_out = _followed(listing, base, where)
    classes: dict[str, list[str]] = {
        unicodedata.normalize("NFC", folder.removeprefix(prefix)): []
        for folder in listing.folders
        if folder.startswith(prefix) and folder != base and "/" not in folder.removeprefix(prefix)
    }
    beside = 0
    for path in sorted(paths):
        top, slash, _ = path.removeprefix(prefix).partition("/")
        if slash and is_image(path):  # a picture beside the class folders belongs to no class
            classes.setdefault(unicodedata.normalize("NFC", top), []).append(path)
        elif slash:
            left_out.append(f"{path} (a kind of image that is not read)")
        else:
            beside += is_image(path)
    hint = f" {_count(left_out)} left out: {names_of(left_out, 3)}." if left_out else ""
    if not any(classes.values()):
        raise ValueError(
            f"{where}: found no class folders with images in {base or 'it'!r}. Put the images in one folder "
            f"per class, as {prefix}CLASS/image.jpg; these count: {', '.join(EXTENSIONS)}.{hint}"
        )
    empty = sorted(name for name, paths in classes.items() if not paths)
    if empty:
        raise ValueError(
            f"{where}: {names_of(empty)} in {base or 'it'!r} should hold the images of a class and holds none. "
            f"Remove the folder or fill it; these count as images: {', '.join(EXTENSIONS)}.{hint}"
        )
    stored = {path: file for path, file in paths.items() if path != file}
    others: Counter[str] = Counter()
    for (folder, ending), count in listing.others.items():
        others[ending] += count if _holds(base, folder) else 0
    kept = {ending: count for ending, count in sorted(others.items()) if count}
    return ClassFolders(
        base, is_split, {name: classes[name] for name in in_order(classes)}, stored, left_out, kept, beside
    )


def told(left_out: list[str], where: str, split: str) -> str:
    """Return the message that names and counts what is skipped."""
    return (
        f"{where}, split {split!r}: {_count(left_out)} left out: {names_of(left_out, 5)}. Convert, repair or remove "
        "them, or set data.corrupt=stop to end there."
    )


def _count(left_out: list[str]) -> str:
    return f"{len(left_out)} {'files or links that look like images are' if len(left_out) > 1 else 'file is'}"


def _followed(listing: Listing, base: str, where: str) -> tuple[dict[str, str], list[str]]:
    """Return {path: where its file lies} of the images below ``base``, its links followed, and what is left out."""
    paths = {path: path for path in listing.files if _holds(base, path)}
    left_out = [f"{path} ({why})" for path, why in listing.left_out.items() if _holds(base, path)]
    taken = [base]
    for link in sorted(link for link in listing.links if _holds(base, link)):
        end = listing.links[link]
        for _ in range(40):  # a link to a link, as far as systems follow them
            if end is None or end not in listing.links:
                break
            end = listing.links[end]
        is_folder = end in listing.folders
        if end is None or not (is_folder or end in listing.files):
            why = "a link that leads nowhere, out of the archive, or back to a folder that holds it"
        elif any(_holds(other, end) or _holds(end, other) for other in taken):
            why = f"a link to {end or 'the top'}, whose images are in other places of the split already"
        else:
            found = [file for file in listing.files if _holds(end, file)] if is_folder else [end]
            paths |= {link + file.removeprefix(end): file for file in found}
            taken += [end] if is_folder else []
            continue
        if "/" not in link.removeprefix(f"{base}/" if base else "") and not looks_like_image(link):
            raise ValueError(
                f"{where}: {link!r} stands where the folder of a class should be and is {why}. Put the images in its "
                "place, or remove it."
            )
        left_out.append(f"{link} ({why})")
    return paths, left_out


def _holds(folder: str, path: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


def has_folder(listing: Listing, name: str) -> bool:
    """Return whether a folder of this name lies anywhere in the store."""
    return any(_is_called(folder, name) for folder in {*listing.folders, *listing.links})


def usual_names(split: str) -> tuple[str, ...]:
    """Return what a validation split may be called instead of ``split``, the first names first; nothing of others."""
    if split not in USUAL_NAMES:
        return ()
    return (*USUAL_NAMES, *(("test",) if split == USUAL_NAMES[0] else ()))


def usual_split(listing: Listing, split: str, train_split: str, where: str) -> str | None:
    """Return under which usual name the validation split lies beside that of training; None where there is none."""
    train = _split_folder(listing, train_split, where)
    for name in usual_names(split):
        found = _split_folder(listing, name, where)
        if None not in (train, found) and str(train).rpartition("/")[0] == str(found).rpartition("/")[0]:
            return name
    return None


def has_split_beside(listing: Listing, name: str, found: ClassFolders) -> bool:
    """Return whether a folder of this name lies outside of the split that was ``found``."""
    folders = {*listing.folders, *listing.links}
    return any(_is_called(folder, name) and not (found.is_split and _holds(found.base, folder)) for folder in folders)


def _is_called(folder: str, name: str) -> bool:
    folder, name = (unicodedata.normalize("NFC", text).strip("/") for text in (folder, name))
    return folder == name or folder.endswith(f"/{name}")


def _split_folder(listing: Listing, split: str, where: str) -> str | None:
    links = {link for link, target in listing.links.items() if target in listing.folders}
    found = sorted(folder for folder in listing.folders | links if _is_called(folder, split))
    if not found:
        return None
    # The topmost wins: below it, a class may have the same name as the split.
    depth = min(folder.count("/") for folder in found)
    top = [folder for folder in found if folder.count("/") == depth]
    if len(top) > 1:
        raise ValueError(
            f"{where} holds several folders called {split!r}: {names_of(top)}. Give a root that holds one of them."
        )
    return listing.links.get(top[0], top[0])


def _plain_folder(listing: Listing) -> str | None:
    """Return the folder whose folders hold images themselves, if the store has that form."""
    holds_images = {path.rpartition("/")[0] for path in listing.files}
    children: dict[str, list[str]] = {}
    for folder in listing.folders - {""}:
        children.setdefault(folder.rpartition("/")[0], []).append(folder)
    base = ""
    while base not in holds_images and len(children.get(base, ())) == 1 and children.get(children[base][0]):
        base = children[base][0]
    # Images further down mean that these are splits, or groups of classes, and not classes.
    deeper = any(child not in holds_images and child in children for child in children.get(base, ()))
    return base if base in children and not deeper else None


def _missing_split(listing: Listing, split: str, where: str, option: str, *, looks_plain: bool) -> str:
    # The folders closest to the top say most about what the root is.
    folders = sorted(listing.folders - {""}, key=lambda folder: (folder.count("/"), folder))
    there = f"the folders there are {names_of(folders)}" if folders else "there are no folders in it"
    text = f"{where} has no folder called {split!r}; {there}. Name the right one in {option}"
    share = "draw the validation images from the training images with data.validation_share=0.15"
    if looks_plain:
        where_else = "say in data.validation_root where the validation images are"
        return f"{text}; to take these for classes, {where_else}, or {share}."
    if option == "data.validation_split":
        return f"{text}, put the images in {split}/CLASS/, or {share}."
    return f"{text}, or put the images in {split}/CLASS/."
