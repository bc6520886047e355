import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.report.drawings import effects as figures
from harness.report.drawings.lanes import drawable, effect_span
from harness.report.drawings.svg import Places, Scale, SignedLog, arm_class, arm_dash, tick_labels, ticks


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
    assert tick_labels([0.0, 0.05, 0.1]) == ["0.00", "0.05", "0.10"]
    assert tick_labels([-20.0, 0.0, 20.0]) == ["−20", "0", "20"]


def test_one_collapsed_arm_does_not_squeeze_the_others(study):
    effects = list(study.analysis.effects[:5])
    low, high = effect_span(effects, 0.5)
    assert all(low < e.low and e.high < high for e in effects)
    collapsed = replace(effects[0], arm="collapsed", mean=-60.0, low=-90.0, high=-30.0)
    low, _ = effect_span([*effects, collapsed], 0.5)
    assert low > -20
    drawing = figures.forest(replace(study.analysis, effects=(*effects, collapsed)))
    assert "arrow" in drawing
    assert "−60.00 [−90.00, −30.00]" in drawing


def test_every_drawing_is_wellformed_and_described(study):
    a = study.analysis
    for drawing in (figures.forest(a), figures.forest(a, log=True), figures.pairs(a.effects[0], a)):
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
    for drawing in (
        figures.forest(analysis),
        figures.pairs(effect, analysis),
    ):
        assert "<script" not in drawing
        assert evil in "".join(ET.fromstring(drawing).itertext())


def test_effects_without_an_interval_are_not_drawn(study):
    assert {e.arm for e in drawable(study.analysis.effects)}.isdisjoint({"asam+sam", "swin"})


def test_colour_says_better_or_worse_in_the_direction_of_the_metric(study):
    gain = next(e for e in study.analysis.effects if e.low > 0)
    hurts, unclear = (replace(gain, verdict=replace(gain.verdict, kind=kind)) for kind in ("hurts", "suggestive"))
    loss = replace(study.analysis, higher_is_better=False)
    span = (-3.0, 3.0)
    assert 'class="dot better"' in figures.interval_bar(gain, study.analysis, span)
    assert 'class="dot worse"' in figures.interval_bar(hurts, loss, span)
    # Its own interval alone is a mere hint: coloured, and not filled.
    assert 'class="dot better hint"' in figures.interval_bar(unclear, study.analysis, span)
    assert 'class="dot worse hint"' in figures.interval_bar(unclear, loss, span)
    assert 'class="dot open"' in figures.interval_bar(replace(unclear, low=-0.1), study.analysis, span)


def test_the_interval_for_all_arms_is_drawn_thin_where_it_is_known(study):
    effects = [e for e in study.analysis.effects if e.n]
    assert str(figures.forest(study.analysis)).count('class="ci all"') == len(effects)
    alone = tuple(replace(e, low_all=e.low, high_all=e.high) for e in effects)
    assert 'class="ci all"' not in figures.forest(replace(study.analysis, effects=alone))


def test_arms_are_told_apart_by_colour_and_dash():
    styles = {(arm_class(i), arm_dash(i)) for i in range(29)}
    assert len(styles) == 29
    assert arm_class(0) == "c0"


def strokes(drawing):
    """The ticks of a row of seeds by class: where each stands, and how far it goes up."""
    return {
        p.get("class").split()[1]: [
            (float(x), -float(v)) for x, v in re.findall(r"M([\d.]+) 12v(-?[\d.]+)", p.get("d"))
        ]
        for p in ET.fromstring(drawing).iter("path")
    }


def test_seed_ticks_stand_at_their_seed_and_are_as_long_as_their_difference(study):
    effect = replace(
        study.analysis.effects[0], n=3, seeds=(0, 2, 3), base=(90.0, 90.0, 90.0), treated=(91.0, 88.0, 99.0)
    )
    drawing = figures.seed_ticks(effect, (0, 1, 2, 3), study.analysis, reach=4.0)

    # Ten units for each planned seed; 4 points are 11 units, and 9 points are cut there.
    assert strokes(drawing) == {"better": [(5, 2.8), (35, 11.0)], "worse": [(25, -5.5)]}
    assert "0: +1.00, 2: −2.00, 3: +9.00" in ET.fromstring(drawing).findtext("title")
    lower = figures.seed_ticks(effect, (0, 1, 2, 3), replace(study.analysis, higher_is_better=False), 4.0)
    assert strokes(lower) == {"worse": [(5, 2.8), (35, 11.0)], "better": [(25, -5.5)]}


def test_equal_runs_have_a_dash_on_zero_for_each_seed(study):
    same = replace(study.analysis.effects[0], seeds=(0, 1), base=(90.0, 90.0), treated=(90.0, 90.0))
    drawing = figures.seed_ticks(same, (0, 1), study.analysis, figures.tick_reach([same]))
    assert [p.get("class") for p in ET.fromstring(drawing).iter("path")] == ["seed tie"]
    assert ET.fromstring(drawing).find("path").get("d") == "M3.5 12h3M13.5 12h3"


def test_the_reach_of_ticks_is_twice_the_median_difference_unless_all_are_smaller(study):
    def effect(*differences):
        return replace(study.analysis.effects[0], base=(0.0,) * len(differences), treated=differences)

    assert figures.tick_reach([effect(1.0, -1.5), effect(-60.0)]) == 3.0
    assert figures.tick_reach([effect(1.0, -1.5, 0.0)]) == 1.5


def test_a_signed_log_scale_is_odd_and_equal_ratios_are_equally_far_apart_in_the_tail():
    scale = SignedLog((-100.0, 100.0), (0.0, 200.0), unit=0.01)
    assert scale(0) == 100
    assert scale(-5) == pytest.approx(200 - scale(5))
    assert scale(40) - scale(20) == pytest.approx(scale(80) - scale(40), rel=1e-3)
    values = [v for v, _ in scale.ticks(7)]
    assert 0.0 in values
    assert values == sorted(values)
    assert values == [-v for v in reversed(values)]


def test_on_the_log_axis_a_collapsed_arm_has_no_arrow(study):
    collapsed = replace(study.analysis.effects[0], arm="collapsed", mean=-60.0, low=-90.0, high=-30.0)
    analysis = replace(study.analysis, effects=(*study.analysis.effects[:5], collapsed))
    assert "arrow" in figures.forest(analysis)
    assert "arrow" not in figures.forest(analysis, log=True)


def test_names_keep_off_dots_edges_and_each_other():
    dots = [(50.0, 50.0), (58.0, 50.0), (190.0, 50.0)]
    places = Places(dots, (0.0, 200.0), (0.0, 100.0))
    drawn = [float(t.get("x")) for dot in dots for t in map(ET.fromstring, places.name(*dot, "abc", ""))]
    assert drawn[0] == 56  # the right side is taken by the next dot, so the name goes above
    assert drawn[1] == 66
    assert drawn[2] == 182  # no room to the right: the name ends before the dot
    assert places.name(50.0, 50.0, "a name that is far too long for this plot", "") == []
