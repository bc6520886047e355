"""A browser without a network, and pages to open in it, of a results folder that nobody trained.

The folder has a study of each kind of design, a search and a comparison, with plausible rows.
"""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from harness.report.site import write_site
from harness.store.schema import METRICS, SearchArm, SearchRecord, Trial
from harness.store.writer import prepare
from harness.testing import CREATED, StoredRun, make_arm, make_curve, make_manifest, make_row, make_study
from harness.tricks.cards import cards

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-first-run", "--hide-scrollbars")  # fmt: skip
DESKTOP = {"width": 1200, "height": 900}
PATIENCE = 600_000
"""Milliseconds to wait for what a page should do: enough for any machine, and a failure where it never does."""

SEEDS, IMAGES, CLASSES, EPOCHS = range(6), 120, 4, (2, 4, 6, 8, 10)
GAINS = {"mixup": 0.5, "ema": -0.6, "cutout": 0.05, "sam": 0.3, "dropout": -0.1, "placebo": 0.0}
"""How much surer of the right class a trick makes the network."""

LONG = "--experiment digits --seeds 6 --set recipe.epochs=80 --set data.train_size=100 --set mixup.alpha=1.0 " * 2


def plan(study, label, **changes):
    tricks = {} if label == "baseline" else {name: {"alpha": 1.0} for name in label.split("+")}
    return make_arm(label, SEEDS, prefix=f"{study}-", **{"tricks": tricks} | changes)


def declare(study, labels, design="one_at_a_time", factors=(), **changes):
    values = {
        "study": study, "question": f"Which tricks help, in the study {study}?", "design": design,
        "scope": "digits, 100 training images, digits_resnet width 16, 80 epochs",
        "command": f"harness ablate {' '.join(GAINS)} {LONG}", "toml": f"# {LONG}\n",
        "factors": factors, "notes": ("A note on the design.",),
    }  # fmt: skip
    return make_manifest([plan(study, label) for label in ("baseline", *labels)], SEEDS, **values | changes)


def trained(manifest, sign=1):
    """Makes the run of an arm and a seed; the last seed of the last arm diverges."""
    arms = [arm.label for arm in manifest.arms if not arm.skipped]

    def run(arm, seed):
        if arm.skipped:
            return None
        i = arms.index(arm.label)
        block, own = np.random.default_rng(seed), np.random.default_rng([seed, i])
        label = block.integers(0, CLASSES, IMAGES)
        noise = block.normal(size=(IMAGES, CLASSES)) + 0.3 * own.normal(size=(IMAGES, CLASSES))
        gain = sign * sum(GAINS[t] for t in arm.tricks)
        logits = ((1.5 + gain) * np.eye(CLASSES)[label] + noise).astype(np.float16)
        right = float((logits.argmax(1) == label).mean())
        lost = i > 2 and i == len(manifest.arms) - 1 and seed == SEEDS[-1]
        row = make_row(
            arm, seed, status="diverged" if lost else "ok", reason="loss is nan" if lost else "",
            finished=CREATED + timedelta(seconds=seed), peak_memory_bytes=100 + i,
            cpu_seconds_train=1 + len(arm.tricks) / 9 + own.random() / 20,
            **{f"{split}_{metric}": None if lost else right for split in ("val", "test") for metric in METRICS},
        )  # fmt: skip
        curve = {
            "train.loss": [2 / e + own.random() / 20 for e in EPOCHS],
            "val.accuracy": [right * e / 10 for e in EPOCHS],
            "val.nll": [3 / e + own.random() / 20 for e in EPOCHS],
        }
        predictions = None if lost else (np.arange(IMAGES), label, logits)
        return StoredRun(row, make_curve(row, curve, epochs=EPOCHS), predictions)

    return run


def store(results, manifest, sign=1):
    make_study(results / manifest.study, manifest, trained(manifest, sign))


def store_search(results, name):
    """A search over two values of one trick, with trials of every state and all three comparisons."""
    folder, rng = results / name, np.random.default_rng(0)
    space = {
        "mixup.alpha": {"low": 0.1, "high": 8.0, "log": True, "integer": False, "default": 1.0},
        "recipe.lr": {"low": 0.02, "high": 2.0, "log": True, "integer": False, "default": 0.2},
    }
    trials = []
    for number, state in enumerate(("complete",) * 9 + ("pruned", "failed", "complete")):
        params = {k: float(np.exp(rng.uniform(np.log(s["low"]), np.log(s["high"])))) for k, s in space.items()}
        values = (
            {} if state == "failed" else {"accuracy": tuple(rng.uniform(0.85, 0.95, 2 if state == "complete" else 1))}
        )
        reason = "loss is nan" if state == "failed" else ""
        trials.append(Trial(number=number, state=state, params=params, values=values, reason=reason))
    shown = {"default": "Default values", "tuned": "Tuned values"}
    comparisons = {kind: declare(f"{name}-{kind}", ["mixup"], question=words) for kind, words in shown.items()}
    arms = (
        SearchArm(label="baseline", space={"recipe.lr": space["recipe.lr"]}, trials=tuple(trials[:5]), winner=1),
        SearchArm(label="mixup", tricks=("mixup",), space=space, trials=tuple(trials), winner=0,
                  importance={"mixup.alpha": 0.7, "recipe.lr": 0.3}),
    )  # fmt: skip
    record = SearchRecord(
        search=name, experiment="digits", question="What does tuning change?", scope="digits, 100 training images",
        objectives=("accuracy",), trials=12, tuning_seeds=(10, 11), fresh_seeds=tuple(SEEDS), sampler="tpe",
        pruner="wilcoxon", arms=arms, comparisons=comparisons, fingerprint="f00d",
        command=f"harness search mixup {LONG}", toml=f"# {LONG}", harness_version="0.1.0", created=CREATED.isoformat(),
    )  # fmt: skip
    prepare(folder)
    (folder / "search.json").write_text(record.model_dump_json())
    for manifest in comparisons.values():
        make_study(folder, manifest, trained(manifest), declare=False)


def invent(results: Path) -> None:
    """Write all of it."""
    names = list(GAINS)
    single = declare("one-at-a-time", names)
    skipped = make_arm("mosaic", 0, skipped="needs images of 32 pixels")
    store(results, single.model_copy(update={"arms": (*single.arms, skipped)}))
    three = names[:3]
    sets = ["+".join(sorted(c)) for k in (1, 2, 3) for c in combinations(three, k)]
    store(results, declare("factorial", sets, "factorial", tuple(three)))
    stack = ["+".join(three[: k + 1]) for k in range(3)]
    store(results, declare("cumulative", stack, "cumulative", tuple(three)))
    store(results, declare("noisy", names, scope="digits, 100 training images, 15 % label noise"), sign=-1)
    store_search(results, "tuning")
    (results / "compare.toml").write_text(
        '[[page]]\nname = "clean-or-noisy"\nstudies = ["one-at-a-time", "noisy"]\ntitle = "Clean or noisy?"\n'
    )


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder with the pages of all that."""
    results = tmp_path_factory.mktemp("results")
    invent(results)
    shown = [card for card in cards() if card["name"] in GAINS or not card["trick"]]
    write_site(results, results / "pages", shown)
    return results / "pages"


@pytest.fixture(scope="module")
def browser():
    """The machine's Chromium, driven by Playwright; it never needs a browser that Playwright would download."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    if BROWSER is None:
        pytest.skip("needs Chromium or Chrome on the PATH (Debian: chromium)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=list(FLAGS), timeout=0)
        yield opened
        opened.close()


@dataclass
class Visit:
    """An open page, what it asked for, and its complaints on the console."""

    page: object
    requests: list = field(default_factory=list)
    errors: list = field(default_factory=list)


@contextmanager
def tab(browser, **context):
    """A tab without a network, for one page after the other."""
    with browser.new_context(viewport=DESKTOP, offline=True, **context) as session:
        session.set_default_timeout(PATIENCE)
        page = session.new_page()
        made = Visit(page)
        page.on("request", lambda r: made.requests.append(r.url))
        page.on("console", lambda m: made.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: made.errors.append(str(error)))
        yield made


@pytest.fixture(scope="module")
def plain(browser):
    """A tab as most people have it: one for all, because a new one takes as long as ten pages."""
    with tab(browser) as made:
        yield made


@pytest.fixture(scope="module")
def scriptless(browser):
    """A tab that runs no script."""
    with tab(browser, java_script_enabled=False) as made:
        yield made


@pytest.fixture
def visit(plain):
    """Opens a page in the tab."""

    def opened(path):
        plain.page.set_viewport_size(DESKTOP)
        plain.page.emulate_media(color_scheme="light")
        plain.page.goto("about:blank")  # also where only the part after # differs
        plain.requests.clear()
        plain.errors.clear()
        plain.page.goto(path.as_uri())
        return plain

    return opened
