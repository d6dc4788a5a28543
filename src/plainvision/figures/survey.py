"""A survey of images as rows of a table, and as a page with pictures."""

from collections.abc import Iterator, Sequence
from typing import Any

from plainvision.data.survey import MOST_COPIES, Copies, Range, SplitSurvey, Survey
from plainvision.figures.page import Page

_NONE = "–"


def survey_rows(survey: Survey) -> list[dict[str, str]]:
    """Return what splits hold as rows of a table, a column for each split."""
    rows = [
        ("images", lambda one: f"{one.images:,}"),
        ("classes", lambda one: str(sum(count > 0 for count in one.per_class.values()))),
        ("of a class, least to most", _per_class),
        ("width, least / median / most", lambda one: _numbers(one.width)),
        ("height", lambda one: _numbers(one.height)),
        ("width by height", lambda one: _numbers(one.aspect, 2)),
        ("grey", lambda one: f"{one.grey:,} ({_share(one.grey, one.read)})"),
        ("mean, prepared as for evaluation", lambda one: _channels(one.mean, one.read)),
        ("std", lambda one: _channels(one.std, one.read)),
        ("cannot be read", lambda one: f"{one.unreadable_count:,}"),
        ("image files that are not used", lambda one: f"{one.left_out_count + one.beside:,}"),
        ("files of other kinds", _others),
    ]
    return [{"": name} | {one.name: str(cell(one)) for one in survey.splits} for name, cell in rows]


def class_rows(survey: Survey) -> list[dict[str, str]]:
    """Return how many images each class has, a column for each split."""
    names = dict.fromkeys(name for one in survey.splits for name in one.per_class)
    return [{"class": name} | {one.name: f"{one.per_class.get(name, 0):,}" for one in survey.splits} for name in names]


def findings(survey: Survey) -> list[str]:
    """Return what to look at before training, a sentence each."""
    found = list(survey.missing)
    for one in survey.splits:
        if one.unreadable_count:
            found.append(
                f"{one.name}: {one.unreadable_count:,} of {one.images:,} images cannot be read. Repair or remove them."
            )
        if one.beside:
            found.append(f"{one.name}: images beside the class folders, and so in no class: {one.beside:,}.")
    if survey.leaked:
        validation = survey.splits[-1]
        found.append(
            f"{validation.name}: {survey.leaked:,} of {validation.read:,} images are in {survey.splits[0].name} too, "
            "pixel for pixel, and a network is scored on what it has seen. Remove them from one of the two."
        )
    if survey.conflicting:
        found.append(f"Images in several classes, pixel for pixel: {survey.conflicting:,}. Leave each in one class.")
    if survey.repeated:
        found.append(f"Images that repeat another one of their own split: {survey.repeated:,}.")
    first = survey.splits[0]
    if first.read and first.grey == first.read:
        found.append(f"All images of {first.name} that can be read are grey: one channel tells as much as three.")
    return found


def copies_lines(groups: Sequence[Copies]) -> list[str]:
    """Return the groups of equal images, a line each."""
    lines = []
    for group in groups:
        kind = "the same file" if group.same_file else "the same pixels"
        rest = group.count - len(group.members)
        names = "  =  ".join(member.name for member in group.members) + (f"  and {rest} more" if rest > 0 else "")
        several = " in several classes" if group.conflicting else ""
        lines.append(f"{names}  ({kind}{several})")
    return lines


def survey_page(survey: Survey, root: str) -> Page:
    """Return the page of a survey of the images at ``root``."""
    page = Page("The images", f"{root}: {', '.join(f'{one.images:,} in {one.name}' for one in survey.splits)}.")
    told = findings(survey)
    page.heading("What to look at first")
    if told:
        page.names(told)
    else:
        page.paragraph("Nothing: every image can be read, and none is there twice.")
    page.heading("The splits")
    page.table(survey_rows(survey), folds=True)
    page.paragraph(
        "Mean and std are of pixels in [0, 1], per channel, after the resizing and the centre crop of evaluation; each "
        "image counts alike."
    )
    for heading, names, count in _lists(survey):
        page.heading(f"{heading} ({count:,})")
        page.names(names)
        if count > len(names):
            page.paragraph(f"And {count - len(names):,} more.")
    page.heading("Pictures")
    for name, pictures in survey.pictures.items():
        page.strip(f"{name}, {survey.splits[0].per_class[name]:,} images", pictures)
    rest = len(survey.splits[0].per_class) - len(survey.pictures)
    if rest > 0:
        page.paragraph(f"And {rest:,} more classes.")
    page.heading("The classes")
    page.table(class_rows(survey), folds=True)
    return page


def _lists(survey: Survey) -> Iterator[tuple[str, list[str], int]]:
    """Yield the headings, the names and the numbers of what is listed by name."""
    across = [group for group in survey.copies if group.across]
    alone = [group for group in survey.copies if not group.across]
    # Groups across splits come first, so that only the others may be cut off.
    rest = 0 if len(across) == MOST_COPIES else survey.copies_count - len(across)
    if across:
        total = survey.copies_count if len(across) == MOST_COPIES else len(across)
        yield "Equal images in several splits", copies_lines(across), total
    if alone:
        yield "Equal images in one split", copies_lines(alone), rest
    for one in survey.splits:
        if one.unreadable:
            yield f"Images of {one.name} that cannot be read", list(one.unreadable), one.unreadable_count
        if one.left_out:
            yield f"Image files of {one.name} that are not used", list(one.left_out), one.left_out_count


def _per_class(one: SplitSurvey) -> str:
    counts = [count for count in one.per_class.values() if count]
    return f"{min(counts):,} to {max(counts):,}" if counts else _NONE


def _numbers(found: Range | None, digits: int = 0) -> str:
    if found is None:
        return _NONE
    return " / ".join(f"{value:,.{digits}f}" for value in (found.least, found.median, found.largest))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else _NONE


def _channels(values: tuple[float, ...], read: int) -> str:
    return " ".join(f"{value:.3f}" for value in values) if read else _NONE


def _others(one: SplitSurvey) -> Any:
    most = sorted(one.others.items(), key=lambda item: -item[1])
    told = ", ".join(f"{count:,} {ending or 'without ending'}" for ending, count in most[:4])
    return told + (f", {sum(count for _, count in most[4:]):,} others" if most[4:] else "") or "0"
