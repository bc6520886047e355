"""The page, CSV, Markdown and LaTeX show the same numbers, and the LaTeX compiles inside a paper's column."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from harness.report.pages.study import render_study
from harness.report.text import tables
from harness.report.text.latex import to_latex
from harness.report.text.numbers import number, p_value
from webpage import Page

NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
SHOWN = ("effect", "low", "high", "p_holm", "n", "time")


def plain(text):
    """Text whose minus signs are ASCII, without LaTeX."""
    for latex, sign in ((r"$-$", "-"), (r"$\times$", "×"), ("$<$", "<"), (r"\allowbreak{}", ""), (r"\_", "_")):
        text = text.replace(latex, sign)
    return re.sub(r"\\textbf\{(.*?)\}", r"\1", text).replace("−", "-").strip()


def numbers(effect, interval, p, n, time):
    """The numbers of a row's cells, as they are shown; p below its smallest is the text."""
    low, high = NUMBER.findall(interval)
    return (float(effect), float(low), float(high), p, float(NUMBER.match(n)[0]), float(NUMBER.match(time)[0]))


def from_html(study):
    tables = Page(render_study(*study.parts, [])).tables
    (found,) = [rows for attributes, rows in tables if "sortable" in attributes.get("class", "").split()]
    rows = {row[0]: {cell.classes[0]: cell.plain for cell in row if cell.classes} for row in found}
    return {
        e.arm: numbers(*(plain(rows[e.arm][key]) for key in ("effect", "low", "p_holm", "n", "time")))
        for e in study.analysis.effects
        if e.n
    }


def from_markdown(study):
    lines = tables.to_markdown(study.analysis).splitlines()
    titles = [t.strip() for t in lines[0].strip("|").split("|")]
    found = {}
    for line in lines[3:]:
        if not line:
            break
        row = dict(
            zip(titles, (plain(c.replace("**", "").replace("\\", "")) for c in line.strip("|").split("|")), strict=True)
        )
        if not row["Pairs"].startswith("0"):
            found[row["Arm"]] = numbers(*(row[t] for t in ("Effect", "95 % CI", "p Holm", "Pairs", "Time")))
    return found


def from_latex(study):
    lines = to_latex(study.analysis).splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    cells = [[plain(c) for c in line.removesuffix(r"\\").split(" & ")] for line in body]
    return {arm: numbers(*row) for arm, *row in cells}


def from_csv(study):
    found = {}
    for row in csv.DictReader(io.StringIO(tables.to_csv(study.analysis))):
        if row["arm"] != "baseline" and row["n"] != "0":
            effect, low, high, p, n, time = (float(row[key]) for key in SHOWN)
            shown = [float(plain(number(v))) for v in (effect, low, high)]
            found[row["arm"]] = (*shown, p_value(p), n, round(time, 2))
    return found


def test_all_four_tables_show_the_same_numbers(study):
    expected = from_csv(study)
    assert list(expected) == [e.arm for e in study.analysis.effects if e.n]
    assert expected["mixup"][3] == "0.002"
    assert from_html(study) == expected
    assert from_markdown(study) == expected
    assert from_latex(study) == expected


COMPILER = next(filter(shutil.which, ("pdflatex", "tectonic")), None)


@pytest.mark.skipif(COMPILER is None, reason="needs pdflatex (Debian: texlive-latex-recommended) or tectonic")
@pytest.mark.parametrize("metric", ["test_accuracy", "test_nll"])
def test_latex_compiles_inside_a_column(study, tmp_path, metric):
    unit, shrink = {"test_accuracy": ("points", 1), "test_nll": ("nats", 100)}[metric]
    arms = ("a_b%{$x$}_#&~^", "a_name_that+goes_on+and_on_and_on", "c", "d", "e", "f", "g")
    effects = tuple(
        replace(e, arm=arm, mean=-e.mean / shrink, low=-e.high / shrink, high=-e.low / shrink)
        for e, arm in zip(study.analysis.effects, arms, strict=True)
    )
    mean = study.analysis.baseline_mean / shrink
    analysis = replace(study.analysis, effects=effects, metric=metric, unit=unit, baseline_mean=mean)
    analysis = replace(analysis, study="s_1%", scope=r"a_b%{$x$}#&~^\input é 漢")
    document = "\n".join((
        r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{array,booktabs}",
        r"\usepackage[textwidth=8.5cm]{geometry}\begin{document}", to_latex(analysis),
        to_latex(analysis, ["c", "d"]), r"\ref{tab:s-1-}\end{document}",
    ))  # fmt: skip
    (tmp_path / "paper.tex").write_text(document)
    # Without shell escape, and without a wait for input: what is wrong ends the run.
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"] if COMPILER == "pdflatex" else []
    done = subprocess.run([COMPILER, *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 0
    log = (tmp_path / "paper.log").read_text(errors="replace") if COMPILER == "pdflatex" else done.stderr
    assert "Overfull" not in log, [line for line in log.splitlines() if "Overfull" in line]
