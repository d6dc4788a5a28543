"""A model card: what a trained network is, how good it is and how to load it, as Markdown for the Hugging Face Hub.

Names of classes, recipes and paths are data: nothing in them is markup, and of a path only the last part is told.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from plainvision.data.settings import RECORDED, Data
from plainvision.hub.trained import published, timm_rebuilds
from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.intervals import percent_interval
from plainvision.models.registry import family_of
from plainvision.showing import shown, shown_lines
from plainvision.surgery.fusing import fold
from plainvision.training.evaluation import Evaluation, evaluate
from plainvision.training.network_words import NO_RUN, Network
from plainvision.training.resumable import read_metrics
from plainvision.training.scores import calibration, class_scores, most_confused

# A table of more classes is read by nobody; the worst ones are told.
_ROWS = 100
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
# What Markdown, or a page made of it, reads as anything else than itself.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#!|~&$@:.])")


def model_card(
    found: Network,
    *,
    data: Data | None = None,
    run: Path | None = None,
    repo: str | None = None,
    licence: str | None = None,
    device: str | None = None,
) -> ModelCard:
    """Return the model card of a trained network; ``save(path)`` writes it.

    Args:
        found: the network, from `trained_network`.
        data: the labelled images to score it on; None tells no scores but those of the run.
        run: the folder of the run, whose own scores are told where there are no ``data``.
        repo: the repository on the Hub, OWNER/NAME, that it is for.
        licence: the Hub's identifier of a licence, such as apache-2.0; None says that there is none.
        device: where to score; None is the CPU.

    Raises:
        ValueError: the licence is no identifier, or the network cannot be scored on the data.
    """
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise ValueError(
            f"the licence {licence!r} is no identifier of the Hub. Give one such as apache-2.0, mit or cc-by-4.0; "
            "https://huggingface.co/docs/hub/repositories-licenses lists them."
        )
    how: dict[str, Any] = {"classes": found.classes, "device": device, "temperature": found.temperature}
    evaluation = evaluate(found.model, data, **how) if data is not None else None
    recipe = published(found.origin).recipe
    name = (repo or recipe.name).rpartition("/")[2] if recipe.name != NO_RUN or repo else recipe.model
    in_timm = timm_rebuilds(found)
    ours = family_of(recipe.model.partition(".")[0])
    head = ModelCardData(
        license=licence,
        library_name="timm" if in_timm and ours is None else "plainvision",
        pipeline_tag="image-classification",
        tags=["image-classification", *(["timm"] if in_timm else []), *(["plainvision"] if ours is None else [ours])],
        model_name=shown(name),
        eval_results=_eval_results(evaluation, data) if evaluation and data else None,
    )
    parts = [
        f"# {escaped(name)}",
        _what(found, recipe.model),
        "## How to load it",
        _loading(repo, in_timm, ours is not None, found.temperature),
        "## Data",
        _data(found, recipe.data),
        "## Recipe",
        _recipe(recipe),
        "## Results",
        _results(evaluation, data, found) if evaluation and data else _from_run(run),
        "## Cost",
        _cost(found),
        "## Limits",
        _limits(evaluation, found),
        "## Licence",
        f"`{licence}`" if licence else "None was chosen: without one, nobody else may use the weights.",
    ]
    return ModelCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def escaped(text: str) -> str:
    """Return a stranger's text in one line of Markdown in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", shown(text))


def _what(found: Network, model: str) -> str:
    form = "in deployed form" if found.origin and found.origin.deployed else "as it was trained"
    return f"A classifier of images: {escaped(model)}, {form}, made with plainvision."


def _loading(repo: str | None, in_timm: bool, is_ours: bool, temperature: float) -> str:
    where = repo or "OWNER/NAME"
    lines = [
        "With plainvision, which reads this repository as data and runs nothing in it:",
        _fenced(
            f"plainvision pull {where} --out network.safetensors\nplainvision predict network.safetensors photo.jpg",
            "sh",
        ),
        _fenced(
            'import plainvision as pv\n\nloaded = pv.load("network.safetensors")\n# loaded.network, loaded.transform, '
            "loaded.classes",
            "python",
        ),
    ]
    if temperature != 1:
        lines.append(
            f"Its confidences are the softmax of the logits divided by the temperature {temperature:.4g}; plainvision "
            "does that by itself."
        )
    if in_timm:
        known = "import plainvision.models  # makes the network known to timm\n" if is_ours else ""
        code = f'import timm\n\n{known}model = timm.create_model("hf-hub:{where}", pretrained=True).eval()'
        lines += ["With timm:", _fenced(code, "python")]
    else:
        lines.append("timm cannot rebuild it: the recipe changes the network in a way that timm has no option for.")
    return "\n\n".join(lines)


def _data(found: Network, data: Data) -> str:
    fitted = "squashed, " if data.resize == "squash" else ""
    prepared = (
        f"{data.image_size} x {data.image_size} pixels, {'RGB' if data.channels == 3 else 'grey'}, "
        f"{data.interpolation}, {fitted}centre crop of {data.crop_ratio:g}; mean {_numbers(data.mean)}, std "
        f"{_numbers(data.std)}"
    )
    rows = [("prepared as", prepared)]
    if found.classes is not None:
        some = ", ".join(map(escaped, found.classes[:_ROWS]))
        more = f" and {len(found.classes) - _ROWS} more" if len(found.classes) > _ROWS else ""
        rows = [
            ("images", escaped(_root(data))),
            ("training split", escaped(_plain(data.train_split))),
            ("validation images", _validation(data)),
            *rows,
            (f"{len(found.classes)} classes", some + more),
        ]
    return _table(("", ""), rows)


def _recipe(recipe: Any) -> str:
    if recipe.name == NO_RUN:
        return "No run of plainvision trained it."
    return "What differs from the defaults of `plainvision.training.Recipe`:\n\n" + _fenced(
        shown_lines(recipe.brief()), "text"
    )


def _results(evaluation: Evaluation, data: Data, found: Network) -> str:
    low, high = evaluation.top1_interval
    five = percent_interval(evaluation.top5, evaluation.images)
    rows = [("top-1", _share(evaluation.top1), f"{low:.1f} to {high:.1f} %")]
    if len(evaluation.per_class) > 5:
        rows.append(("top-5", _share(evaluation.top5), f"{five[0]:.1f} to {five[1]:.1f} %"))
    rows += [
        ("naming the most frequent class always", _share(evaluation.largest_class), ""),
        ("calibration error", f"{calibration(evaluation.predictions).error:.1f} points", ""),
    ]
    scores = class_scores(evaluation.predictions, found.classes or tuple(evaluation.per_class))
    worst = sorted(scores, key=lambda one: one.recall)[:_ROWS]
    chosen = scores if len(scores) <= _ROWS else worst
    cells = [
        (
            escaped(one.name),
            str(one.images),
            _with_interval(one.recall, one.recall_interval),
            _with_interval(one.precision, one.precision_interval),
            _with_interval(one.f1, one.f1_interval),
        )
        for one in chosen
    ]
    confused = most_confused(evaluation.predictions, 5)
    pairs = ", ".join(f"{escaped(one.label)} as {escaped(one.predicted)} ({one.images})" for one in confused)
    skipped = f" {len(evaluation.skipped)} more could not be read." if evaluation.skipped else ""
    return "\n\n".join(
        [
            f"On {evaluation.images} images of {escaped(_root(data))}, {_validation(data)}.{skipped} Intervals are "
            "Wilson's, 95 %.",
            _table(("", "", "95 %"), rows),
            f"Classes{'' if chosen is scores else f', the {_ROWS} of lowest recall'}:",
            _table(("class", "images", "recall %", "precision %", "F1 %"), cells),
            *([f"Most often confused: {pairs}."] if pairs else []),
        ]
    )


def _from_run(run: Path | None) -> str:
    lines = [line for line in read_metrics(run) if "top1" in line] if run is not None and run.is_dir() else []
    if not lines:
        return "Not scored."
    best = max(lines, key=lambda line: line["top1"])
    return (
        f"Not scored again for this card. In training, the best epoch, number {best['epoch'] + 1}, had a top-1 of "
        f"{best['top1']:.2f} % on the validation images."
    )


def _cost(found: Network) -> str:
    data, model = found.data, found.model
    deployed = bool(found.origin and found.origin.deployed)
    forms = {"deployed form" if deployed else "as it is": model}
    if not deployed:
        try:
            folded = fold(model)
        except ValueError:  # a slope is not 1
            folded = model
        if count_parameters(folded) != count_parameters(model):
            forms["deployed form (`plainvision fuse`)"] = folded
    rows = [
        (
            form,
            f"{count_parameters(one):,}",
            f"{count_macs(one, data.image_size, data.channels):,}",
        )
        for form, one in forms.items()
    ]
    heads = ("", "parameters", f"multiply-adds of an image of {data.image_size} x {data.image_size} pixels")
    return _table(heads, rows)


def _limits(evaluation: Evaluation | None, found: Network) -> str:
    known = f"its {len(found.classes)} classes" if found.classes else "its classes"
    said = [
        f"It knows {known} alone, and names one of them for any image, whatever is on it.",
        "The scores hold for images like those that it was scored on, taken and cut in the same way.",
        "The weights are those of the best epoch on the validation images, where a run kept the best: the score on "
        "the same images is a little better than on new ones.",
    ]
    if evaluation is not None:
        said.append("The intervals tell what few images leave open, not what other images would change.")
        scores = class_scores(evaluation.predictions, found.classes or tuple(evaluation.per_class))
        worst = sorted(scores, key=lambda one: one.recall)[:3]
        told = ", ".join(f"{escaped(one.name)} ({one.recall:.0f} %)" for one in worst)
        said.append(f"Recall is lowest for {told}.")
        off = calibration(evaluation.predictions).error
        said.append(f"A confidence is off by {off:.1f} points on average: do not read it as a probability unchecked.")
    return "\n".join(f"- {line}" for line in said)


def _eval_results(evaluation: Evaluation, data: Data) -> list[EvalResult]:
    hub = data.root.partition("/")[2] if data.root.startswith(("hfds/", "hfids/")) else ""
    metrics = {"top-1 %": evaluation.top1} | ({"top-5 %": evaluation.top5} if len(evaluation.per_class) > 5 else {})
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=shown(hub or "imagefolder"),
            dataset_name=shown(_root(data)),
            dataset_split=shown(_plain(data.validation_split)),
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(value, 2),
        )
        for name, value in metrics.items()
    ]


def _root(data: Data) -> str:
    """Return what the images are called: a data set's name, or the last part of a path."""
    root = _plain(data.validation_root or data.root)
    return root if root.startswith(("hfds/", "hfids/")) else Path(root.rstrip("/")).name or root


def _plain(text: str) -> str:
    return text.removeprefix(RECORDED)


def _validation(data: Data) -> str:
    if data.folds is not None:
        return f"fold {data.fold} of {data.folds} of the training images"
    if data.validation_share is not None:
        return f"{100 * data.validation_share:g} % of each class, drawn from the training images"
    return f"the split {escaped(_plain(data.validation_split))}"


def _share(percent: float) -> str:
    return f"{percent:.2f} %"


def _with_interval(value: float | None, interval: tuple[float, float]) -> str:
    return "" if value is None else f"{value:.1f} ({interval[0]:.0f} to {interval[1]:.0f})"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _fenced(text: str, language: str) -> str:
    """Return a block of code; its fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
