"""The page's script in a real browser: one visit, whose answers the tests below read."""

import html
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from harness.analysis.types import Finding
from harness.report.drawings.curves import SMOOTHING
from harness.report.pages.study import render_study

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

VISIT = """
const out = {};
const $ = (selector) => document.querySelector(selector);
const $$ = (selector) => [...document.querySelectorAll(selector)];
const shown = () => $$("#arms tr[data-kind]").filter((r) => !r.hidden).map((r) => r.cells[0].textContent);
const count = () => $("#arm-filter output").textContent;
const type = (text) => {
  $("#arm-filter [name=arm]").value = text;
  $("#arm-filter [name=arm]").dispatchEvent(new Event("input", { bubbles: true }));
};
const line = (group) => [group.dataset.arm, group.querySelector(".mean").getAttribute("d")];
const lines = (plot) => Object.fromEntries([...plot.querySelectorAll(".lines g")].map(line));
const ticks = (plot) => [...plot.querySelectorAll(".frame text")].map((t) => t.textContent);
const later = () => new Promise((resolve) => setTimeout(resolve, 50));
(async () => {
  out.hidden = $$("[data-script]").filter((e) => e.hidden).length;
  out.all = [shown().length, count()];
  type("t1 ");
  out.named = [shown(), count()];
  type("");
  $("[name=kind][value=hurts]").click();
  out.hurts = [shown(), count()];
  $("#arm-filter [type=reset]").click();
  await later();
  out.reset = [shown().length, $("#arm-filter [type=reset]").disabled];
  $("a[data-only=helps]").click();
  await later();
  out.helps = [shown(), $$("[name=kind]:checked").map((b) => b.value)];
  const lost = $$("#arms tr[data-kind=hurts]")[0];
  location.hash = lost.id;
  await later();
  out.linked = lost.hidden;

  const head = $$("#arms th").find((h) => h.textContent === "Effect");
  const column = () => $$("#arms tbody tr").map((r) => r.cells[0].textContent);
  head.firstElementChild.click();
  out.down = [head.getAttribute("aria-sort"), column()];
  head.firstElementChild.click();
  out.up = [head.getAttribute("aria-sort"), column()];

  const plot = $(".plot");
  const button = (set) => plot.querySelector(`[data-set=${set}]`);
  out.first = [lines(plot), ticks(plot)];
  button("log").click();
  out.log = [lines(plot), ticks(plot), button("log").getAttribute("aria-pressed")];
  button("log").click();
  out.again = [lines(plot), ticks(plot)];
  button("smooth").click();
  out.smooth = lines(plot);
  button("smooth").click();
  $("[data-arm='10']").click();
  out.more = Object.keys(lines(plot));
  $("[data-all='']").click();
  out.none = Object.keys(lines(plot));
  $("[data-all=on]").click();
  out.every = Object.keys(lines(plot)).length;

  $("[data-all='']").click();
  $("[data-arm='0']").click();
  plot.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  out.read = plot.querySelector("output").innerText;
  plot.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  out.earlier = plot.querySelector("output").innerText;
  plot.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  out.closed = plot.querySelector("output").classList.contains("open");

  const forests = () => $$("[data-swapped=forest]").map((f) => f.hidden);
  out.forest = [forests()];
  $("[data-swap=forest]").click();
  out.forest.push(forests(), $("[data-swap=forest]").getAttribute("aria-pressed"));

  out.folded = $("#finding-0").closest("details").open;
  location.hash = "finding-0";
  await later();
  out.unfolded = $("#finding-0").closest("details").open;
  dispatchEvent(new Event("beforeprint"));
  out.printed = $$("details").filter((d) => !d.open).length;
})().catch((error) => { out.error = String(error); }).finally(() => {
  const answers = { id: "answers", textContent: JSON.stringify(out) };
  document.body.append(Object.assign(document.createElement("pre"), answers));
});
"""

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=5000", "--dump-dom",
)  # fmt: skip


@pytest.fixture(scope="module")
def visit(study_of, tmp_path_factory):
    study = study_of(gains={f"t{i}": (i - 6) / 2 for i in range(13)}, seeds=6, epochs=12)
    finding = Finding("overfitting", "warning", "Odd", "Evidence.", "Look.")
    text = render_study(*study.parts, [], findings=[(finding, ["t1"])])
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "page.html"
    page.write_text(text.replace("</body>", f"<script>{VISIT}</script></body>"))
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r'<pre id="answers">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    answers = json.loads(html.unescape(found[1]))
    assert "error" not in answers
    return SimpleNamespace(**answers, study=study)


def arms(visit, kind):
    return [e.arm for e in visit.study.analysis.effects if e.verdict.kind == kind]


def test_controls_appear(visit):
    assert visit.hidden == 0


def test_filters_count_what_they_show(visit):
    assert visit.all == [15, "15 of 15 arms"]
    assert visit.named == [["t1", "t10", "t11", "t12"], "4 of 15 arms"]
    assert visit.hurts == [arms(visit, "hurts"), f"{len(arms(visit, 'hurts'))} of 15 arms"]
    assert visit.reset == [15, True]
    assert visit.helps == [arms(visit, "helps"), ["helps"]]


def test_a_link_to_a_row_that_is_filtered_away_shows_it(visit):
    assert visit.linked is False


def test_sorting_keeps_the_baseline_on_top_and_lost_arms_at_the_end(visit):
    ranked = sorted((e for e in visit.study.analysis.effects if e.n), key=lambda e: -e.mean)
    names, lost = [e.arm for e in ranked], ["asam+sam", "swin"]
    assert visit.down[0] == "descending"
    assert visit.down[1] == ["baseline", *names, *lost]
    assert visit.up[0] == "ascending"
    assert visit.up[1] == ["baseline", *reversed(names), *lost]


def points(path):
    return [tuple(map(float, p.split())) for p in path[1:].split("L")]


def test_what_the_script_draws_is_what_the_page_came_with(visit):
    """There and back: the script's linear drawing has the ticks and, but for rounding, the lines of the static one."""
    (static, labels), (drawn, again) = visit.first, visit.again
    assert sorted(map(int, static)) == sorted(map(int, drawn)) == list(range(8))
    assert labels == again
    for arm, path in static.items():
        assert sum(points(drawn[arm]), ()) == pytest.approx(sum(points(path), ()), abs=0.5)


def test_a_log_axis_places_values_by_their_logarithm(visit):
    """On a linear axis value = a + b y; on the log axis the same points must be linear in its logarithm."""
    linear, log = points(visit.again[0]["0"]), points(visit.log[0]["0"])
    assert visit.log[2] == "true"
    assert log != linear
    data = visit.study.curves.query("split == 'val' and metric == 'accuracy'")
    own = data[data["run_id"].isin(visit.study.manifest.arms[0].run_ids.values())]
    mean = own.groupby("epoch")["value"].mean().to_numpy()
    inside = [i for i, (_, y) in enumerate(log) if 12 < y < 250]
    fit = np.polyfit(np.log(mean[inside]), [log[i][1] for i in inside], 1)
    assert np.polyval(fit, np.log(mean[inside])) == pytest.approx([log[i][1] for i in inside], abs=0.5)


def test_smoothing_is_the_weighted_mean_of_the_curve_so_far(visit):
    """The axis is linear and stays as it is, so the drawn heights smooth as the values do."""
    raw, smoothed = points(visit.again[0]["0"]), points(visit.smooth["0"])
    total = weight = 0.0
    for (_, y), (_, found) in zip(raw, smoothed, strict=True):
        total, weight = SMOOTHING * total + y, SMOOTHING * weight + 1
        assert found == pytest.approx(total / weight, abs=0.15)


def test_arms_are_switched_on_and_off(visit):
    assert sorted(map(int, visit.more)) == [*range(8), 10]
    assert visit.none == []
    assert visit.every == 14


def test_arrow_keys_read_out_measured_values_with_their_n(visit):
    data = visit.study.curves.query("split == 'val' and metric == 'accuracy'")
    own = data[data["run_id"].isin(visit.study.manifest.arms[0].run_ids.values())]
    for text, epoch in ((visit.read, 12), (visit.earlier, 11)):
        assert text.startswith(f"epoch {epoch}\n")
        mean = 100 * own[own["epoch"] == epoch]["value"].mean()
        assert re.search(r"baseline (\S+)%", text)[1] == f"{mean:.4g}"
        assert text.endswith("n = 6")
    assert visit.closed is False


def test_the_other_forest_takes_the_place_of_the_first(visit):
    assert visit.forest == [[False, True], [True, False], "true"]


def test_folds_open_for_links_and_for_paper(visit):
    assert (visit.folded, visit.unfolded) == (False, True)
    assert visit.printed == 0
