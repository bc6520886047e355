"""A script that classifies texts: nothing of a study of commands is bound to images."""

import json
import shutil
from pathlib import Path

import pytest

from harness.store.reader import read_manifest, read_study

PROGRAM = Path(__file__).parents[1] / "shared" / "programs" / "text_sorter.py"

TOML = """
[experiment]
name = "docstrings"
question = "Do the tricks of EDA help to tell packages by their docstrings?"
margin = 0.5

[command]
run = ["{python}", "text_sorter.py", "--seed", "{seed}", "--out", "{out}", "{flags}"]
code = ["*.py"]
flags = { "--epochs" = 2 }

[metrics.accuracy]
file = "scores.json"
key = "test.accuracy"
unit = "fraction"

[tricks.word_deletion]
flags = { "--deletion" = "{p}" }
p = 0.1

[tricks.word_swap]
flags = { "--swap" = "{n}" }
n = 2
"""


@pytest.mark.slow
def test_tricks_for_texts_are_flags_of_a_text_script(cli, tmp_path):
    cli = type(cli)(tmp_path)
    shutil.copy(PROGRAM, tmp_path)
    (tmp_path / "text.toml").write_text(TOML)
    words = ("word_deletion", "word_swap", "-e", "text.toml", "--seeds", 3, "--workers", 2)
    done = cli.here("ablate", *words, "--json")
    assert done.returncode == 0, done.stderr

    effects = {e["arm"]: e for e in json.loads(done.stdout)["effects"]}
    assert {arm: e["n"] for arm, e in effects.items()} == {"word_deletion": 3, "word_swap": 3}
    assert all(50 < value < 100 for e in effects.values() for value in (*e["base"], *e["treated"]))
    assert all(e["sd"] > 0 for e in effects.values())  # each flag does something
    folder = tmp_path / "results" / "docstrings-word-deletion-word-swap"
    rows = read_study(folder, read_manifest(folder).runs).runs
    assert set(rows["status"]) == {"ok"}
    page = (tmp_path / "reports" / f"{folder.name}.html").read_text()
    assert "text_sorter.py" in page
    assert "image" not in page.split("<main", 1)[-1].split("</main>")[0].lower().replace("images per second", "")

    checked = cli.here("check", "text.toml", "--seeds", 2)
    assert checked.returncode == 0, checked.stdout + checked.stderr
