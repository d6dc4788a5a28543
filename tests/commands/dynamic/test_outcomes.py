"""`plainvision dynamic bounds`, `greedy`, `preferences` and `efficiency`: what they say of outcomes."""

import json
import shutil
from dataclasses import replace

import pytest
from commands.dynamic.running import DILATIONS, STRIDES, cells, failure, good, made, outcomes, record

from plainvision.dynamic.tables import preference_series, rows_by_layers, view_curves
from plainvision.training.recipe import Recipe
from plainvision.training.weights_file import load_network


def test_bounds_are_shown_by_layers_beside_controls_of_equal_number(place):
    said = good("bounds", place.strides)
    found = outcomes(place.strides)
    figures = record(place.strides / "bounds.json")
    assert figures["bounds"] == {"stride": rows_by_layers(found)}
    rows = figures["bounds"]["stride"]
    assert [row["layers"] for row in rows] == ["A", "D", "AD"]
    for row in rows:
        chosen = found.restrict(row["layers"])
        bounds, count = chosen.bounds(), len(chosen.permutations)
        oracles = {one.name: one.top1 for one in chosen.controls() if one.uses_labels}
        assert row["permutations"] == count
        assert (row["static"], row["worst"], row["median"], row["best"]) == (
            *(bounds.static, bounds.worst, bounds.median, bounds.best),
        )
        assert row["controls"]["input zooms"] == oracles[f"best of {count} input zooms"]
        assert row["controls"]["labels shuffled"] == oracles["labels shuffled"]
        numbers = (bounds.static, bounds.worst, bounds.median, bounds.best, bounds.volatility, *oracles.values())
        assert [row["layers"], str(count), *(f"{number:.2f}" for number in numbers)] in cells(said)
    assert (place.strides / "layer_choice.png").stat().st_size > 5000


def test_bounds_of_several_outcomes_stand_in_one_table(place, tmp_path):
    said = good("bounds", place.strides, place.dilations / "outcomes.safetensors", "--json", tmp_path / "x" / "b.json")
    firsts = [row[0] for row in cells(said)]
    begin = firsts.index("stride")
    assert firsts[begin : begin + 8] == ["stride", "A", "D", "AD", "dilation", "A", "D", "AD"]
    assert list(record(tmp_path / "x" / "b.json")["bounds"]) == ["stride", "dilation"]
    said = good("bounds", place.strides, place.dilations, "--no-layers", "--json", tmp_path / "x" / "b.json")
    for name, folder in (("stride", place.strides), ("dilation", place.dilations)):
        best = f"{outcomes(folder).bounds().best:.2f}"
        assert any(row[:2] == [name, "4"] and best in row for row in cells(said))
    assert "--figure draws the layers of one network" in failure(
        "bounds", place.strides, place.dilations, "--figure", tmp_path / "a.png"
    )


def test_outcomes_are_told_apart_by_their_folders_where_nothing_else_differs(place, tmp_path):
    for name in ("before", "after"):
        shutil.copytree(place.strides, tmp_path / name / "outcomes")
        shutil.copy(place.strides / "outcomes.safetensors", tmp_path / f"{name}.safetensors")
    good("bounds", *(tmp_path / name / "outcomes" for name in ("before", "after")))
    assert list(record(tmp_path / "before" / "outcomes" / "bounds.json")["bounds"]) == [
        "before/outcomes",
        "after/outcomes",
    ]
    good("bounds", *(tmp_path / f"{name}.safetensors" for name in ("before", "after")))
    assert list(json.loads((tmp_path / "bounds.json").read_text())["figures"]["bounds"]) == ["before", "after"]


def test_greedy_shows_how_few_permutations_do_and_which(place):
    said = good("greedy", place.strides, "--most", 3)
    found = outcomes(place.strides)
    figures = record(place.strides / "greedy.json")
    greedy = found.greedy(3)
    curve = figures["permutations"]["stride"]
    assert curve["best"] == greedy.best
    assert (curve["static"], curve["all"], curve["count"]) == (found.bounds().static, found.bounds().best, 4)
    assert figures["controls"] == view_curves(found, 3)
    for name, curve in view_curves(found, 4).items():
        assert curve[-1] == pytest.approx(100 * (found.views[name] == found.labels[:, None]).any(1).mean())
    views = [f"{best[1]:.2f}" for best in figures["controls"].values()]
    assert ["2", f"{greedy.best[1]:.2f}", *views] in cells(said)
    assert any(
        row[:5] == ["1", "A", *figures["permutations"]["stride"]["order"][0].split()[1:4]] for row in cells(said)
    )
    assert (place.strides / "greedy_curves.png").stat().st_size > 5000


def test_combined_attributes_are_written_and_evaluated(place, tmp_path):
    file = tmp_path / "new" / "space.json"
    words = ("greedy", place.strides, place.dilations, "--combine", file, "--combine-limit", 9)
    said = good(*words, "--figure", tmp_path / "a.svg", "--json", tmp_path / "a.json")
    assert f"9 permutations of stride and dilation in {file}" in said
    assert "input zooms" in said  # once, because both are of one network
    assert "input zooms," not in said
    good("evaluate", *place.words, "--space", file, "--out", tmp_path / "both")
    found = outcomes(tmp_path / "both")
    space = outcomes(place.strides).combine(outcomes(place.dilations), limit=9)
    assert found.permutations == space.chosen
    assert "stride, dilation" in good("bounds", place.strides, tmp_path / "both", "--json", tmp_path / "b.json")
    assert good("preferences", tmp_path / "both").count("dilation") > 3
    sites = ("--sites", "W=conv1", "X=layer1.0.conv1", "Y=layer2.0.conv1", "Z=layer3.0.conv1")
    assert "is for the sites A, B, C, D, and resnet20_cifar has W, X, Y, Z" in failure(
        "evaluate", *place.words, "--space", file, *sites, "--out", tmp_path / "c"
    )


def test_greedy_curves_of_two_networks_have_controls_of_their_own(place, tmp_path):
    data = replace(load_network(place.run)[1].recipe.data, root=str(place.images))
    recipe = Recipe(name="other", model="resnet20_cifar", model_options={"width": 0.5, "drop_rate": 0.1}, data=data)
    made(tmp_path / "other", recipe, seed=1)
    good(
        "evaluate", "--model", tmp_path / "other", "--data.root", place.images, *STRIDES, "--out", tmp_path / "strides"
    )
    words = (place.strides, tmp_path / "strides")
    good("greedy", *words, "--json", tmp_path / "g.json", "--figure", tmp_path / "g.png")
    controls = json.loads((tmp_path / "g.json").read_text())["figures"]["controls"]
    assert len(controls) == 4
    assert "it is another network" in failure("greedy", *words, "--combine", tmp_path / "c.json")
    said = failure("preferences", *words)
    assert "preferences are compared of one network at the same sites" in said


def test_preferences_of_one_are_shown_by_permutation_and_by_option(place):
    said = good("preferences", place.strides)
    found = outcomes(place.strides)
    figures = record(place.strides / "preferred_permutations.json")
    preferences = found.preferences()
    assert figures["options"] == preferences.options
    assert [row["share"] for row in figures["permutations"]] == sorted(preferences.permutations, reverse=True)
    assert sum(row["as_trained"] for row in figures["permutations"]) == 1
    shares = preferences.options
    assert ["1", *(f"{100 * shares[site]['1']:.1f}" for site in "ABD")] in cells(said)
    assert "(as trained)" in said
    assert (place.strides / "preferred_permutations.png").stat().st_size > 5000


def test_preferences_of_several_are_drawn_against_scale_and_context(place, tmp_path):
    run = ("evaluate", *place.words, "--data.validation-per-class", 2, "--no-controls")
    good(*run, *DILATIONS, "--scale", 0.5, "--out", tmp_path / "dilation_scale")
    for axis, value in (("scale", 0.5), ("scale", 2), ("context", 8), ("context", 12)):
        good(*run, *STRIDES, f"--{axis}", value, "--out", tmp_path / f"stride_{axis}_{value}")
    scaled = sorted(tmp_path.glob("*_scale*"))
    said = good("preferences", *scaled, place.strides)
    rows = record(scaled[0] / "preference_by_scale.json")["rows"]
    assert {row["changes"]: list(row)[3:] for row in rows} == {
        "dilation": ["scale 0.5"],
        "stride": ["scale 0.5", "scale 1", "scale 2"],
    }
    plain = outcomes(place.strides).preferences().options
    strides = [row for row in rows if row["changes"] == "stride"]
    assert {(row["site"], row["option"]) for row in strides} == {
        (s, o) for s, options in plain.items() for o in options
    }
    for row in strides:
        assert row["scale 1"] == pytest.approx(plain[row["site"]][row["option"]], abs=1e-4)
    assert ["site", "stride", "scale", "0.5", "scale", "1", "scale", "2"] in cells(said)
    assert (scaled[0] / "preference_by_scale.png").stat().st_size > 5000
    cropped = sorted(tmp_path.glob("*_context_*"))
    good("preferences", *cropped, "--figure", tmp_path / "a.pdf")
    assert "context 8" in record(cropped[0] / "preference_by_context.json")["rows"][0]
    assert "scale and context both differ" in failure("preferences", *scaled, *cropped)
    assert "neither scale nor context differs" in failure("preferences", place.strides, place.dilations)
    assert "does not say how much context" in failure("preferences", *cropped, place.strides)
    again = tmp_path / "again"
    shutil.copytree(scaled[0], again)
    assert "again is the second at scale 0.5" in failure("preferences", scaled[0], again)


def test_a_series_begins_at_the_smallest_scale(place, tmp_path):
    good("evaluate", *place.words, *STRIDES, "--no-controls", "--scale", 0.5, "--out", tmp_path / "half")
    axis, series = preference_series({"a": outcomes(place.strides), "b": outcomes(tmp_path / "half")})
    assert (axis, list(series["stride"])) == ("scale", [0.5, 1.0])


def test_efficiency_shows_what_an_oracle_saves(place, tmp_path):
    said = good("efficiency", place.strides)
    found = outcomes(place.strides)
    rows = record(place.strides / "efficiency.json")["rows"]
    assert [row["what"] for row in rows] == ["static", "static, cheapest", "best case", "best case, cheapest"]
    for like, (plain, cheap) in (("static", rows[:2]), ("best", rows[2:])):
        efficiency = found.cheapest(like)
        assert (plain["macs"], cheap["macs"]) == (efficiency.reference_macs, efficiency.mean_macs)
        assert plain["top1"] == cheap["top1"] == efficiency.accuracy
        assert f"{efficiency.factor:.2f} x" in said
    assert "Only an oracle can choose that" in said
    assert (place.strides / "efficiency.png").stat().st_size > 5000
    said = good("efficiency", place.strides, place.dilations, "--figure", tmp_path / "a.png", "--json", tmp_path / "a")
    assert sum(row[0] == "dilation" for row in cells(said)) == 4
