"""Every kind of page in a real browser: offline, without errors, on a phone, for a keyboard and a screen reader."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPORTS = Path(__file__).parents[2] / "reports"
PHONE = {"width": 390, "height": 844}
MADE = (
    "index", "one-at-a-time", "factorial", "cumulative", "clean-or-noisy", "tuning", "tricks", "tricks/mixup",
)  # fmt: skip


def published():
    """The committed pages, of those of single tricks only one: they are all alike."""
    if not REPORTS.is_dir() or shutil.which("git") is None:
        return []
    listed = subprocess.run(
        ["git", "ls-files", "*.html"], cwd=REPORTS, capture_output=True, text=True, check=False
    ).stdout.split()
    return [name for name in listed if "/" not in name] + [name for name in listed if "/" in name][:1]


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in published()]


@pytest.fixture(params=[*MADE, *LARGE])
def path(request, site):
    return REPORTS / request.param if request.param.endswith(".html") else site / f"{request.param}.html"


def unfold(page):
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")


def barriers(page, **options):
    """What axe calls a serious or critical violation: rule, first elements, and how to mend it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [
        (rule["id"], [node["target"] for node in rule["nodes"][:3]], rule["nodes"][0]["failureSummary"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def too_wide(page):
    """How far the page scrolls sideways, and the first elements that reach beyond the window."""
    return page.evaluate(
        """() => [document.documentElement.scrollWidth - innerWidth, [...document.querySelectorAll("body *")]
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre, svg"))
        .map((e) => e.outerHTML.slice(0, 120)).slice(0, 5)]"""
    )


def test_a_page_keeps_to_itself_fits_a_phone_and_bars_nobody(visit, path):
    # One visit for all: opening a page costs more than looking at it.
    v = visit(path)
    assert v.page.title()
    assert v.page.locator("h1").count() == 1
    unfold(v.page)
    for swap in v.page.locator("button[data-swap]").all():
        swap.click()
    assert barriers(v.page) == []
    v.page.emulate_media(color_scheme="dark")
    assert barriers(v.page, runOnly=["color-contrast"]) == []
    v.page.set_viewport_size(PHONE)
    assert too_wide(v.page)[0] <= 0, too_wide(v.page)[1]
    assert v.requests == [path.as_uri()]
    assert v.errors == []
