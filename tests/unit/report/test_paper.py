import math
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from harness.cli import main
from harness.errors import UserError
from harness.report.drawings import paper, sheet
from harness.report.drawings.curves import PANELS
from harness.report.export import FIGURES

EVIL = "<script>alert(1)</script>&$x_1$"
PUBLISHED = Path(__file__).parents[3] / "results"


@pytest.fixture(scope="module")
def source(study):
    analysis = replace(study.analysis, study="digits_many", scope="digits, 100 images")
    return paper.Material(analysis, study.points)


def drawn(name, source, width=8.5):
    effects = [e for e in source.analysis.effects if e.n]
    with mpl.rc_context(sheet.STYLE):
        return paper.DRAW[name](source, effects, width)


def words(svg):
    return [t.text for t in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def lines(axes):
    """The data of every line of two points or more."""
    return [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 1]


def test_every_figure_of_the_page_can_be_drawn_and_has_a_limit():
    assert set(FIGURES) == set(paper.DRAW) == set(paper.MOST)


@pytest.mark.parametrize(("name", "form"), [*((n, "svg") for n in FIGURES), ("forest", "pdf"), ("forest", "png")])
def test_equal_data_give_equal_bytes_whatever_the_machine_is_set_to(source, name, form):
    first = paper.figure(name, form, source)
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "axes.grid": True}):
        assert paper.figure(name, form, source) == first
    assert first.startswith({"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[form])
    assert not re.search(rb"CreationDate|<dc:date>|tIME", first)
    assert b"/Type3" not in first, "journals refuse such fonts"


@pytest.mark.parametrize("name", FIGURES)
def test_text_stays_text_of_eight_points_at_the_width_asked_for(source, name):
    svg = paper.figure(name, "svg", source, width=17).decode()
    root = ElementTree.fromstring(svg)
    assert float(root.get("width").removesuffix("pt")) == pytest.approx(17 / 2.54 * 72, abs=0.01)
    sizes = {
        re.search(r"(?:font: |font-size: )[^;]*?([\d.]+)px", t.get("style"))[1]
        for t in root.iter()
        if t.text and t.tag.endswith("}text")
    }
    assert sizes == {"8"}
    assert source.analysis.scope in svg


@pytest.mark.parametrize("name", FIGURES)
def test_names_are_neither_markup_nor_formulas(study_of, name):
    study = study_of(gains={EVIL: 1.0, "mixup": 0.2}, seeds=5, epochs=4)
    source = paper.Material(study.analysis, study.points)
    svg = paper.figure(name, "svg", source, ["mixup", EVIL], 17).decode()
    assert "<script" not in svg
    assert EVIL in "".join(words(svg))


def test_a_forest_shows_every_effect_with_its_interval_and_n_best_first(source):
    svg = paper.figure("forest", "svg", source)
    told = words(svg)
    effects = sorted((e for e in source.analysis.effects if e.n), key=lambda e: -e.mean)
    numbers = {f"{e.mean:+.2f} [{e.low:.2f}, {e.high:.2f}]".replace("-", "−") for e in effects}
    assert {"effect [95 % CI]", "n", "effect on test accuracy (points)", *numbers} <= set(told)
    assert [t for t in told if t in {"mixup", "sam", "ema", "dropout"}] == [e.arm for e in effects if "+" not in e.arm]
    assert told.count("10") >= len(effects)
    (axes,) = drawn("forest", source).axes
    found = [line for line in lines(axes) if line[0, 1] == line[1, 1] and line[0, 1] > 0]
    whiskers = [line[:, 0].tolist() for line in found if not np.isclose(line[0, 0], -line[1, 0])]
    assert whiskers == [pytest.approx([e.low, e.high]) for e in effects]
    margin = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (margin.x0, margin.x1) == pytest.approx((-0.5, 0.5))


def test_a_forest_leaves_out_arms_without_an_interval_and_grows_with_the_others(source, study_of):
    assert "swin" not in words(paper.figure("forest", "svg", source))
    heights = []
    for arms in (10, 30, 60):
        study = study_of(gains={f"t{i}": i / 10 for i in range(arms)}, seeds=3, epochs=2)
        many = paper.Material(study.analysis, study.points)
        svg = paper.figure("forest", "svg", many, [f"t{i}" for i in range(arms)])
        heights.append(float(ElementTree.fromstring(svg).get("height").removesuffix("pt")) / 72 * 2.54)
        assert set(words(svg)) >= {f"t{i}" for i in range(arms)}
    rows = [(b - a) / n for (a, b), n in zip(pairwise(heights), (20, 30), strict=True)]
    assert rows == pytest.approx([0.37, 0.37], abs=0.001)
    assert heights[-1] < 25, "sixty arms fit on a page"


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow(source):
    far = replace(source.analysis.effects[3], mean=-60.0, low=-70.0, high=-50.0)
    effects = (*source.analysis.effects[:3], far)
    (axes,) = drawn("forest", replace(source, analysis=replace(source.analysis, effects=effects))).axes
    assert axes.get_xlim()[0] > -20
    assert [line.get_marker() for line in axes.lines].count("<") == 1


def test_curves_are_means_over_the_finished_runs_with_bands(source, study):
    figure = drawn("curves", source)
    assert [a.get_title(loc="left").removesuffix(" (%)") for a in figure.axes] == [title for _, _, title, *_ in PANELS]
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()][:2] == ["baseline (n = 10)", "mixup (n = 10)"]
    assert legend.get_title().get_text() == "mean over n runs with 95 % t band"
    ids = set(study.manifest.arms[1].run_ids.values())
    known = study.curves[study.curves["run_id"].isin(ids)].query("split == 'val' and metric == 'accuracy'")
    mixup = next(line for line in figure.axes[0].lines if line.get_label() == "mixup (n = 10)")
    assert mixup.get_ydata() == pytest.approx(100 * known.groupby("epoch")["value"].mean().to_numpy())
    last = 100 * known.query("epoch == 20")["value"]
    half = 2.262157 * last.std() / math.sqrt(10)  # the tabled 97.5 % quantile of t with 9 degrees of freedom
    corners = [tuple(v) for c in figure.axes[0].collections for v in c.get_paths()[0].vertices]
    for edge in (last.mean() - half, last.mean() + half):
        assert any((x, y) == pytest.approx((20, edge)) for x, y in corners)


def test_cost_places_each_arm_at_its_time_and_effect(source):
    (axes,) = drawn("cost", source).axes
    points = {tuple(line.get_xydata()[0]) for line in axes.lines if len(line.get_xydata()) == 1}
    assert points == {(e.time.value, e.mean) for e in source.analysis.effects if e.n}
    assert {t.get_text() for t in axes.texts} == {e.arm for e in source.analysis.effects if e.n}
    assert "95 % intervals, n = 10 pairs" in words(paper.figure("cost", "svg", source))


def test_the_names_of_a_cost_figure_do_not_cover_each_other(source):
    figure = drawn("cost", source)
    renderer = figure.canvas.get_renderer()
    for text in figure.axes[0].texts:
        text.update_positions(renderer)
    boxes = [mpl.text.Text.get_window_extent(t, renderer) for t in figure.axes[0].texts]
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if paper.overlap(a, b)]


def test_pairs_join_each_seed_and_show_its_difference(source):
    figure = drawn("pairs", source)
    slopes, differences = figure.axes[:2]
    effect = source.analysis.effects[0]
    assert [line[:, 1].tolist() for line in lines(slopes)] == [
        list(p) for p in zip(effect.base, effect.treated, strict=True)
    ]
    shown = [line.get_ydata()[0] for line in differences.lines if len(line.get_xydata()) == 1]
    assert shown == pytest.approx([*effect.differences, effect.mean])
    assert [effect.low, effect.high] in [line[:, 1].tolist() for line in lines(differences)]
    d = f"{effect.mean:+.2f} [{effect.low:.2f}, {effect.high:.2f}], n = 10 pairs"
    assert d in words(paper.figure("pairs", "svg", source))


def test_nothing_is_told_by_colour_alone():
    assert len({str(dashes) for _, dashes in paper.LINES}) == len(paper.LINES) == paper.MOST["curves"] + 1
    assert len({(marker, fill == "white") for _, marker, fill in paper.TONES.values()}) == 4
    shown = [(marker, fill) for name, (_, marker, fill) in paper.TONES.items() if name != "open"]
    assert len(set(shown)) == 4, "what is open holds zero, which its whisker shows"


@pytest.mark.parametrize("name", FIGURES)
def test_more_arms_than_fit_are_refused_with_an_example_of_a_choice(study_of, name):
    most = paper.MOST[name]
    study = study_of(gains={f"t{i}": i / 10 for i in range(most + 1)}, seeds=3, epochs=2)
    source = paper.Material(study.analysis, study.points)
    with pytest.raises(UserError, match=rf"figure {name} of \d+ arms: at most {most} fit; .* --arms t\d+,t\d+,t\d+$"):
        paper.figure(name, "svg", source)


@pytest.mark.parametrize("width", [6.9, 41, math.nan])
def test_an_impossible_width_is_refused(source, width):
    with pytest.raises(UserError, match="a figure is 7 to 40 cm wide"):
        paper.figure("forest", "svg", source, width=width)


def test_a_forest_that_has_no_room_for_its_axis_says_how_wide_it_must_be(source):
    effect = replace(source.analysis.effects[0], arm="w" * 60)
    narrow = replace(source, analysis=replace(source.analysis, effects=(effect,)))
    with pytest.raises(UserError, match=r"--width 7: too narrow .* (\d+) fit") as refused:
        paper.figure("forest", "svg", narrow, width=7)
    enough = float(re.search(r"(\d+) fit", str(refused.value))[1])
    assert paper.figure("forest", "svg", narrow, width=enough)


def test_what_has_no_data_is_refused_with_the_reason(source):
    nothing = replace(source, analysis=replace(source.analysis, effects=source.analysis.effects[5:]))
    with pytest.raises(UserError, match="figure forest of digits_many: no arm has an interval, which takes two pairs"):
        paper.figure("forest", "svg", nothing)
    with pytest.raises(UserError, match="no stored curves"):
        paper.figure("curves", "svg", replace(source, points=source.points.iloc[:0]))
    untimed = tuple(replace(e, time=None) for e in source.analysis.effects)
    with pytest.raises(UserError, match="no arm has a time to compare"):
        paper.figure("cost", "svg", replace(source, analysis=replace(source.analysis, effects=untimed)))


def test_a_loss_has_no_margin_and_its_better_side_is_the_left(source):
    analysis = replace(source.analysis, metric="test_nll", unit="nats", margin=math.nan, higher_is_better=False)
    for name in FIGURES:
        svg = paper.figure(name, "svg", replace(source, analysis=analysis)).decode()
        assert "nan" not in svg.lower()
    told = words(paper.figure("forest", "svg", replace(source, analysis=analysis)))
    assert {"← better", "worse →"} <= set(told)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["harness", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "svgg"], "--format svgg: choose one of html, csv, markdown, latex, svg, png, pdf"),
        (["--format", "svg", "--figure", "tree"], "--figure tree: choose one of forest, curves, cost, pairs or all"),
        (["--format", "csv", "--figure", "forest"], "--figure forest: only figures have it"),
        (["--width", "9"], "--width 9.0: only figures have it"),
        (["--arms", "mixup"], "--arms mixup: the page has all arms"),
    ],
)
def test_options_that_would_be_ignored_are_refused(monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_the_command_writes_the_figures_that_can_be_drawn_and_names_the_others(monkeypatch, capsys, tmp_path):
    common = ("digits-all-tricks", "--results", PUBLISHED, "--reports", tmp_path, "--format", "svg")
    assert run(monkeypatch, *common, "--arms", "mixup, cutmix,sam,ema,sam,cutout,dropout,awp,adam") == 0
    told = capsys.readouterr()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits-all-tricks-cost.svg", "digits-all-tricks-forest.svg"]
    assert f"figure: {tmp_path / 'digits-all-tricks-forest.svg'}" in told.out
    assert "left out: figure curves of 8 arms: at most 7 fit" in told.err
    assert run(monkeypatch, *common, "--figure", "pairs") == 2
    assert "figure pairs of 105 arms: at most 6 fit" in capsys.readouterr().err
