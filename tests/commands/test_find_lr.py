"""`plainvision train RECIPE --find-lr`: a table, a figure, a rate, and no run."""

import re

from commands.running import plainvision, said

FEW = ("--data.train-per-class", "40", "--data.validation-per-class", "2", "--batch-size", "40", "--data.workers", "0")


def test_a_rate_is_found_shown_and_drawn_and_no_run_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = plainvision("train", "vanillanet_digits", *FEW, "--find-lr", "--out", "runs/a")
    assert (ended.status, ended.err) == (0, "")
    assert "The loss falls fastest at" in ended.out
    assert re.search(r"^ falls fastest +\d\.\de-\d\d +\d\.\d{3}", ended.out, re.MULTILINE)
    (rate,) = re.findall(r"suggested: --lr (\S+) \(the recipe has 0\.01\), for batch_size=40", ended.out)
    assert 1e-3 < float(rate) < 0.2
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "a_lr.png"]
    assert "figure in runs/a_lr.png" in ended.out


def test_without_a_folder_the_figure_is_called_like_the_recipe_and_a_flat_loss_is_tried_longer(tmp_path, monkeypatch):
    from plainvision.training import learning_rates

    monkeypatch.chdir(tmp_path)
    asked = []

    def flat(recipe, steps):
        asked.append(steps)
        return learning_rates.judged([10.0**-n for n in range(5, 0, -1)], [2.3] * 5, diverged=False)

    monkeypatch.setattr(learning_rates, "range_test", flat)
    ended = plainvision("train", "vanillanet_digits", "--find-lr")
    assert ended.status == 0
    assert asked == [100, 300]
    assert "No rate is suggested: in 5 steps the loss did not fall" in ended.out
    assert "suggested: --lr" not in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["vanillanet_digits_lr.png"]


def test_what_cannot_be_is_said_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(plainvision("train", "vanillanet_digits", "--find-lr", "--data.root", "nowhere"), "no images at")
    (tmp_path / "file").write_text("")
    assert said(
        plainvision("train", "vanillanet_digits", "--find-lr", "--out", "file/run"), "cannot write file/run_lr.png"
    )
    assert plainvision("train", "vanillanet_digits", *FEW, "--out", "run", "--epochs", "1").status == 0
    ended = plainvision("train", "vanillanet_digits", "--find-lr", "--resume", "--out", "run")
    assert said(ended, "--find-lr tries rates on a new network", "Leave --resume out")
