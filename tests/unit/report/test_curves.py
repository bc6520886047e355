import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.report.drawings.curves import Panel, Series, curve_data, curve_panel, curve_spans


def test_curve_axes_fit_late_training_of_the_first_arms_which_alone_are_drawn():
    epochs = [float(e) for e in range(11)]
    mean = [10.0, 50.0, *[90.0] * 9]
    early, late = [m - 1 for m in mean], [m + 1 for m in mean]
    panel = Panel("Validation accuracy", "%", [Series(i, 3, epochs, mean, early, late) for i in range(2)])
    collapsed = Series(2, 3, epochs, [10.0] * 11, [9.0] * 11, [11.0] * 11)
    panel = replace(panel, series=[*panel.series, collapsed])
    across, up = curve_spans(panel, 2)
    assert across == (0, 10)
    assert up == pytest.approx((88.9, 91.1))
    groups = ET.fromstring(curve_panel(panel, ["baseline", "a", "b"], 2)).iter("g")
    assert [g.get("data-arm") for g in groups if g.get("data-arm")] == ["1", "0"]


def test_a_single_seed_has_a_line_and_no_band():
    nan = [math.nan] * 3
    panel = Panel("Training loss", "", [Series(0, 1, [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], nan, nan)])
    drawing = curve_panel(panel, ["baseline"], 8)
    assert "mean c0" in drawing
    assert "band" not in drawing
    assert "nan" not in drawing


def test_without_curves_of_the_first_arms_the_others_are_drawn():
    panel = Panel("Training loss", "", [Series(9, 1, [1.0, 2.0], [2.0, 1.0], [math.nan] * 2, [math.nan] * 2)])
    assert panel.first(8) == panel.series
    assert 'data-arm="9"' in curve_panel(panel, [""] * 10, 8)


def test_text_of_curves_is_escaped():
    evil = '<script>alert(1)</script>"&'
    panel = Panel(evil, "%", [Series(1, 2, [1.0, 2.0], [1.0, 2.0], [0.5, 1.5], [1.5, 2.5])])
    drawing = curve_panel(panel, ["baseline", evil], 8)
    assert "<script" not in drawing
    assert evil in "".join(ET.fromstring(drawing).itertext())
    assert "</script" not in curve_data([panel], ["baseline", evil])


def test_the_data_of_the_script_hold_mean_and_half_band_and_each_list_of_epochs_once():
    long, short = [1.0, 2.0], [1.0]
    series = [
        Series(0, 3, long, [50.0, 60.0], [48.0, 57.5], [52.0, 62.5]),
        Series(1, 3, long, [51.0, 61.234567], [48.0, 57.5], [54.0, 65.0]),
        Series(2, 1, short, [40.0], [math.nan], [math.nan]),
    ]
    data = json.loads(curve_data([Panel("Validation accuracy", "%", series)], ["baseline", "a", "b"]))
    assert data["epochs"] == [[1, 2], [1]]
    first, second, third = data["panels"][0]["series"]
    assert (first["mean"], first["half"], first["at"]) == ([50, 60], [2, 2.5], 0)
    assert (second["mean"], second["half"]) == ([51, 61.23], [3, 3.77])
    assert (third["half"], third["at"], third["n"]) == ([None], 1, 1)
