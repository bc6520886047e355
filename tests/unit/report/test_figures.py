import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.report import figures
from harness.report.figures import Panel, Scale, Series, ticks


def test_scale_maps_both_ends_and_can_flip():
    scale = Scale((0, 10), (100, 0))
    assert (scale(0), scale(10), scale(2.5)) == (100, 0, 75)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-0.5, 0.5, [-0.4, -0.2, 0.0, 0.2, 0.4]),
        (86.1, 91.3, [87, 88, 89, 90, 91]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_tick_labels_have_the_decimals_of_their_step():
    assert figures.tick_labels([0.0, 0.05, 0.1]) == ["0.00", "0.05", "0.10"]
    assert figures.tick_labels([-20.0, 0.0, 20.0]) == ["−20", "0", "20"]


def test_one_collapsed_arm_does_not_squeeze_the_others(study):
    effects = list(study.analysis.effects[:5])
    low, high = figures.effect_span(effects, 0.5)
    assert all(low < e.low and e.high < high for e in effects)
    collapsed = replace(effects[0], arm="collapsed", mean=-60.0, low=-90.0, high=-30.0)
    low, _ = figures.effect_span([*effects, collapsed], 0.5)
    assert low > -20
    drawing = figures.forest(replace(study.analysis, effects=(*effects, collapsed)))
    assert "arrow" in drawing
    assert "−60.00 [−90.00, −30.00]" in drawing


def test_every_drawing_is_wellformed_and_described(study):
    a = study.analysis
    for drawing in (figures.forest(a), figures.pairs(a.effects[0], a), figures.cost(a)):
        root = ET.fromstring(drawing)
        assert root.get("role") == "img"
        assert root[0].tag == "title"
        assert root[0].text
        assert root[1].tag == "desc"
        assert "n = 10" in root[1].text


def test_text_is_escaped_everywhere(study):
    evil = '<script>alert(1)</script>"&'
    effect = replace(study.analysis.effects[0], arm=evil)
    analysis = replace(study.analysis, effects=(effect,))
    panel = Panel(evil, "%", [Series(1, 2, [1.0, 2.0], [1.0, 2.0], [0.5, 1.5], [1.5, 2.5])])
    for drawing in (
        figures.forest(analysis),
        figures.pairs(effect, analysis),
        figures.cost(analysis),
        figures.curve_panel(panel, ["baseline", evil], 8),
    ):
        assert "<script" not in drawing
        assert evil in "".join(ET.fromstring(drawing).itertext())


def test_no_cost_figure_without_time_ratios(study):
    effects = tuple(replace(e, time=None) for e in study.analysis.effects)
    assert figures.cost(replace(study.analysis, effects=effects)) is None


def test_effects_without_an_interval_are_not_drawn(study):
    assert {e.arm for e in figures.drawable(study.analysis.effects)}.isdisjoint({"asam+sam", "swin"})


def test_colour_says_better_or_worse_in_the_direction_of_the_metric(study):
    gain = next(e for e in study.analysis.effects if e.low > 0)
    loss = replace(study.analysis, higher_is_better=False)
    span = (-3.0, 3.0)
    assert "ci better" in figures.interval_bar(gain, study.analysis, span)
    assert "ci worse" in figures.interval_bar(gain, loss, span)
    assert "ci open" in figures.interval_bar(replace(gain, low=-0.1), study.analysis, span)


def test_arms_are_told_apart_by_colour_and_dash():
    styles = {(figures.arm_class(i), figures.arm_dash(i)) for i in range(29)}
    assert len(styles) == 29
    assert figures.arm_class(0) == "c0"


def test_curve_axis_fits_late_training_and_hides_arms_beyond_the_first():
    epochs = [float(e) for e in range(11)]
    mean = [10.0, 50.0, *[90.0] * 9]
    early, late = [m - 1 for m in mean], [m + 1 for m in mean]
    panel = Panel("Validation accuracy", "%", [Series(i, 3, epochs, mean, early, late) for i in range(3)])
    across, up = figures.curve_spans(panel, 2)
    assert across == (0, 10)
    assert up == pytest.approx((88.9, 91.1))
    groups = ET.fromstring(figures.curve_panel(panel, ["baseline", "a", "b"], 2)).iter("g")
    assert {g.get("data-arm"): g.get("class") for g in groups} == {"0": "arm", "1": "arm", "2": "arm off"}


def test_a_single_seed_has_a_line_and_no_band():
    nan = [math.nan] * 3
    panel = Panel("Training loss", "", [Series(0, 1, [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], nan, nan)])
    drawing = figures.curve_panel(panel, ["baseline"], 8)
    assert "mean c0" in drawing
    assert "band" not in drawing
    assert "nan" not in drawing
