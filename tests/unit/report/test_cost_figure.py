import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.analysis.types import Ratio
from harness.report.drawings.cost import Option, cost, front, options, told
from harness.report.drawings.svg import LogScale


def named(*found):
    return [Option(name, gain, time) for name, gain, time in found]


def test_the_front_has_what_no_other_beats_on_both_the_fastest_first():
    found = named(
        ("baseline", 0.0, 1.0),
        ("slow and best", 3.0, 2.0),
        ("slower and worse", 2.0, 2.5),
        ("cheap", -1.0, 0.5),
        ("as good, slower", 3.0, 2.1),
        ("as slow, worse", 1.0, 2.0),
        ("middle", 1.5, 1.2),
    )
    assert [o.name for o in front(found)] == ["cheap", "baseline", "middle", "slow and best"]


def test_of_two_equal_options_both_are_on_the_front():
    assert [o.name for o in front(named(("a", 1.0, 1.0), ("b", 1.0, 1.0)))] == ["a", "b"]


def test_a_loss_that_takes_longer_is_beaten_by_the_baseline():
    assert [o.name for o in front(named(("baseline", 0.0, 1.0), ("a", -0.1, 1.0), ("b", 0.0, 1.1)))] == ["baseline"]


def test_gains_of_an_error_are_falls(study):
    rises = {o.name: o.gain for o in options(study.analysis)}
    falls = {o.name: o.gain for o in options(replace(study.analysis, higher_is_better=False))}
    assert rises["baseline"] == falls["baseline"] == 0
    assert rises["mixup"] == -falls["mixup"] == study.analysis.effects[0].mean


def test_an_option_is_told_with_both_intervals_and_its_n(study):
    effect = replace(study.analysis.effects[0], mean=1.25, low=0.5, high=2.0, time=Ratio(1.5, 1.4, 1.6, 10))
    (_, option) = options(replace(study.analysis, effects=(effect,)))
    assert told(option, study.analysis) == "mixup +1.25 [0.50, 2.00] at 1.50× [1.40, 1.60], n = 10"


def test_the_line_joins_the_front_in_steps(study):
    """mixup gains 1 at 1.5 times, sam 2 at 2 times; ema loses at 1.2 times and is no part of the line."""
    base, wanted = study.analysis.effects[0], {"mixup": (1.0, 1.5), "sam": (2.0, 2.0), "ema": (-0.3, 1.2)}
    effects = tuple(
        replace(base, arm=arm, mean=m, low=m - 0.5, high=m + 0.5, time=Ratio(t, t - 0.1, t + 0.1, 10))
        for arm, (m, t) in wanted.items()
    )
    root = ET.fromstring(cost(replace(study.analysis, effects=effects)))
    line = next(p for p in root.iter("path") if p.get("class") == "pareto").get("d")
    points = [tuple(map(float, p.split())) for p in line[1:].split("L")]
    circles = {
        g.findtext("title").split()[0]: (float(g.find("circle").get("cx")), float(g.find("circle").get("cy")))
        for g in root.iter("g")
    }
    (x0, y0), (x1, y1), (x2, y2) = points[0], circles["mixup"], circles["sam"]
    assert sum(points, ()) == pytest.approx((x0, y0, x1, y0, x1, y1, x2, y1, x2, y2))
    bold = {t.text for t in root.iter("text") if "strong" in (t.get("class") or "")}
    assert bold == {"baseline", "mixup", "sam"}


def test_a_mean_beyond_the_axis_is_an_arrow(study):
    collapsed = replace(study.analysis.effects[0], arm="collapsed", mean=-60.0, low=-90.0, high=-30.0)
    root = ET.fromstring(cost(replace(study.analysis, effects=(*study.analysis.effects[:5], collapsed))))
    group = next(g for g in root.iter("g") if g.findtext("title").startswith("collapsed"))
    assert group.find("circle") is None
    assert group.find("path").get("class").startswith("arrow")


def test_no_cost_figure_without_time_ratios(study):
    effects = tuple(replace(e, time=None) for e in study.analysis.effects)
    assert cost(replace(study.analysis, effects=effects)) is None


def test_text_is_escaped_and_every_arm_described(study):
    evil = '<script>alert(1)</script>"&'
    analysis = replace(study.analysis, effects=(replace(study.analysis.effects[0], arm=evil),))
    drawing = cost(analysis)
    assert "<script" not in drawing
    assert evil in ET.fromstring(drawing).findtext("desc")
    assert "n = 10" in ET.fromstring(drawing).findtext("desc")


def test_ticks_of_a_log_scale():
    assert [label for _, label in LogScale((0.45, 12.0), (0, 1)).ticks()] == ["0.5", "1", "2", "5", "10"]
    assert [label for _, label in LogScale((0.95, 1.13), (0, 1)).ticks()] == ["0.95", "1.00", "1.05", "1.10"]
    scale = LogScale((0.5, 8.0), (0.0, 4.0))
    assert scale(2) - scale(1) == pytest.approx(scale(4) - scale(2))
