import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.report.site import write_site
from harness.store.schema import SearchArm, SearchRecord, Trial
from harness.testing import StoredRun, make_arm, make_curve, make_manifest, make_row, make_study
from webpage import Page

EVIL = '<script>alert("1")</script>'
ATOM = "{http://www.w3.org/2005/Atom}"
SEEDS = range(6)
CARDS = [
    {
        "trick": True, "kind": "addition",
        "name": name, "family": "core", "summary": f"{name} in short", "formula": "L = x",
        "paper": "A 2020", "expect": "little", "differs": "nothing", "cost": 1.0, "excludes": {}, "version": 1,
        "hooks": ["batch"], "parameters": [],
    }
    for name in ("mixup", "ema", "never_tried")
]  # fmt: skip


def declared(name, created="2025-01-01T12:00:00+00:00", arms=("mixup", "ema", "ema+mixup"), question="Does it help?"):
    plans = [make_arm(label, SEEDS, prefix=f"{name[:6]}-") for label in ("baseline", *arms)]
    return make_manifest(
        plans, SEEDS, study=name, question=question, command="harness ablate mixup ema", toml="[recipe]\nlr = 0.2\n",
        created=created,
    )  # fmt: skip


GAINS = {"baseline": 0.0, "mixup": 2.0, "ema": -2.0, "ema+mixup": 0.1}


def trained(manifest, sign=1.0):
    """Makes the run of an arm and a seed; `sign` turns the effects round. Asked for in the order of the manifest."""
    rng = np.random.default_rng(len(manifest.study))
    block = rng.normal(0, 1.5, len(SEEDS))

    def run(arm, seed):
        accuracy = (88 + block[seed] + sign * GAINS[arm.label] + rng.normal(0, 0.15)) / 100
        row = make_row(arm, seed, test_accuracy=accuracy, val_accuracy=accuracy)
        values = [accuracy * e / 5 for e in range(1, 6)]
        return StoredRun(
            row, make_curve(row, dict.fromkeys(("val.accuracy", "val.nll", "train.loss"), values), steps=1)
        )

    return run


def store_study(results, name, sign=1.0, **options):
    manifest = declared(name, **options)
    make_study(results / name, manifest, trained(manifest, sign))


def store_search(results, name):
    manifest = declared("tuned", arms=("mixup",))
    trial = Trial(number=0, state="complete", params={"mixup.alpha": 0.3}, run_ids={}, values={"accuracy": (0.9, 0.91)})
    space = {"mixup.alpha": {"low": 0.1, "high": 1.0, "log": True, "integer": False, "default": 1.0}}
    searched = SearchArm(label="mixup", tricks=("mixup",), space=space, trials=(trial,), winner=0)
    record = SearchRecord(
        search=name, experiment="digits", question="Which alpha?", scope="digits", objectives=("accuracy",), trials=1,
        tuning_seeds=(10, 11), fresh_seeds=tuple(SEEDS), sampler="tpe", pruner="none",
        arms=(SearchArm(label="baseline"), searched),
        comparisons={"tuned": manifest}, fingerprint="f00d", command="harness search mixup", toml="",
        harness_version="0.1.0", created="2025-03-01T12:00:00+00:00",
    )  # fmt: skip
    make_study(results / name, manifest, trained(manifest), declare=False)
    (results / name / "search.json").write_text(record.model_dump_json())


COMPARE = """
[[page]]
name = "clean-or-noisy"
studies = ["clean", "noisy"]
title = "Clean or noisy?"
preface = "Some words first."
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    store_study(folder / "published", "clean")
    store_study(
        folder / "published", "noisy", sign=-1.0, created="2025-02-01T01:00:00+02:00", question="And with noise?"
    )
    store_search(folder, "tuning")
    (folder / "published" / "compare.toml").write_text(COMPARE)
    return folder


@pytest.fixture(scope="module")
def site(results, tmp_path_factory):
    reports = tmp_path_factory.mktemp("site") / "reports"
    write_site(results, reports, CARDS)
    return reports


def pages(site):
    return {str(p.relative_to(site)): p.read_text() for p in sorted(site.rglob("*.html"))}


def test_every_kind_of_page_is_written(site):
    assert sorted(pages(site)) == [
        "clean-or-noisy.html", "clean.html", "index.html", "noisy.html", "tricks.html", "tricks/ema.html",
        "tricks/mixup.html", "tricks/never_tried.html", "tuning.html",
    ]  # fmt: skip


def test_every_link_of_every_page_leads_somewhere(site):
    read = {site / name: Page(html) for name, html in pages(site).items()}
    for page, found in read.items():
        for link in found.links:
            path, _, anchor = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page
            assert target.is_file(), f"{page}: {link}"
            assert not anchor or anchor in read[target].ids, f"{page}: {link}"


def test_pages_are_found_from_the_index_and_lead_back(site):
    index = Page((site / "index.html").read_text()).links
    for page in ("clean.html", "noisy.html", "tuning.html", "clean-or-noisy.html", "tricks.html", "feed.xml"):
        assert page in index
    for page in ("clean.html", "clean-or-noisy.html", "tricks.html", "tuning.html"):
        assert "index.html" in Page((site / page).read_text()).links


def test_the_table_of_a_study_lies_beside_its_page(site):
    with (site / "clean.csv").open(encoding="utf-8") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    html = (site / "clean.html").read_text()

    assert "mixup" in rows
    for arm, row in rows.items():
        assert arm in html
        assert not row["effect"] or f"{abs(float(row['effect'])):.2f}" in html
    assert "clean.csv" in Page((site / "index.html").read_text()).links


def test_writing_the_site_again_elsewhere_gives_the_same_bytes(results, site, tmp_path):
    script = (
        "import json, sys; from pathlib import Path; from harness.report.site import write_site\n"
        "write_site(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))"
    )
    # Another process has other hashes, so no set or dict may decide an order.
    subprocess.run([sys.executable, "-c", script, results, tmp_path, json.dumps(CARDS)], check=True)

    files = sorted(p.relative_to(site) for p in site.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for file in files:
        assert (site / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_the_index_counts_the_verdicts_with_their_signs_and_names_the_arms(site):
    html = (site / "index.html").read_text()
    entry = re.search(r'<li data-text="clean does it help.*?</li>\n</ul>', html, re.S).group()

    assert re.findall(r'<span aria-hidden="true">(.)</span> ([a-z ]+ \d)', entry) == [
        ("▲", "helps 1"),
        ("▼", "hurts 1"),
        ("=", "equivalent 1"),
    ]
    assert 'Help: <a href="tricks/mixup.html">mixup</a>.' in entry
    assert 'Hurt: <a href="tricks/ema.html">ema</a>.' in entry
    assert "one at a time, 3 arms × 6 seeds" in entry
    assert 'data-verdicts="helps|hurts|equivalent"' in entry
    assert 'data-experiment="digits"' in entry


def test_the_index_counts_additions_and_tells_of_the_others_apart(tmp_path, monkeypatch):
    monkeypatch.setitem(GAINS, "batch_norm", -4.0)
    monkeypatch.setitem(GAINS, "relu", 0.1)
    store_study(tmp_path, "removals", arms=("mixup", "ema", "batch_norm", "relu"))
    write_site(tmp_path, tmp_path / "reports", CARDS)
    html = (tmp_path / "reports" / "index.html").read_text()

    assert re.findall(r'<span aria-hidden="true">(.)</span> ([a-z ]+ \d)', html) == [("▲", "helps 1"), ("▼", "hurts 1")]
    assert 'Hurt: <a href="tricks/ema.html">ema</a>.' in html
    assert "Of the 2 other arms (2 removals), 0 help and 1 hurts. Hurt: batch_norm." in Page(html).text
    assert 'data-verdicts="helps|hurts|equivalent"' in html
    feed = ElementTree.fromstring((tmp_path / "reports" / "feed.xml").read_bytes())
    told = "helps 1, hurts 1. Of the 2 other arms (2 removals), 0 help and 1 hurts. one at a time"
    assert feed.findtext(f"{ATOM}entry/{ATOM}summary").startswith(told)


def test_the_newest_study_comes_first_and_dates_are_in_utc(site):
    html = (site / "index.html").read_text()

    assert html.index('href="noisy.html"') < html.index('href="clean.html"')
    assert '<time datetime="2025-01-31">' in html, "an hour past midnight two hours east of Greenwich"


def test_the_filter_is_hidden_until_a_script_shows_it(site):
    html = (site / "index.html").read_text()

    assert re.search(r'<form class="filter"[^>]* hidden>', html)
    assert "form.hidden = false" in html


def test_a_trick_has_a_row_for_each_study_and_for_what_a_search_tuned(site):
    html = (site / "tricks" / "mixup.html").read_text()

    assert re.findall(r'<th role="rowheader" scope="row"><a href="([^"]+)">([^<]+)</a>', html) == [
        ("../clean.html", "clean"), ("../noisy.html", "noisy"), ("../tuning.html", "tuning (tuned)"),
    ]  # fmt: skip
    assert "the sign flips" in html


def test_a_trick_without_a_study_has_a_page_that_says_so(site):
    assert "make ablate TRICK=never_tried" in (site / "tricks" / "never_tried.html").read_text()


def test_the_asked_comparison_is_written_with_its_words(site):
    html = (site / "clean-or-noisy.html").read_text()

    assert "<h1>Clean or noisy?</h1>" in html
    assert "Some words first." in html
    assert '<a href="tricks/mixup.html">mixup</a>' in html


def test_the_feed_is_valid_atom_with_ids_and_times_of_the_declarations(site):
    feed = ElementTree.fromstring((site / "feed.xml").read_bytes())
    entries = [{child.tag.removeprefix(ATOM): child for child in entry} for entry in feed.iter(f"{ATOM}entry")]

    assert feed.tag == f"{ATOM}feed"
    assert feed.findtext(f"{ATOM}updated") == "2025-03-01T12:00:00Z"
    assert [e["link"].get("href") for e in entries] == [
        "tuning.html",
        "clean-or-noisy.html",
        "noisy.html",
        "clean.html",
    ]
    assert [e["updated"].text for e in entries[2:]] == ["2025-01-31T23:00:00Z", "2025-01-01T12:00:00Z"]
    ids = [e["id"].text for e in entries]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", i) for i in ids)
    assert entries[3]["summary"].text.startswith("helps 1, hurts 1, equivalent 1. one at a time, 3 arms × 6 seeds")


def test_hostile_words_stay_words_and_the_feed_stays_xml(tmp_path):
    store_study(tmp_path, "a b&c", question=f"{EVIL} \x0b\ufffe]]>")
    write_site(tmp_path, tmp_path / "reports", CARDS)

    feed = ElementTree.fromstring((tmp_path / "reports" / "feed.xml").read_bytes())
    assert feed.findtext(f"{ATOM}entry/{ATOM}title") == f"{EVIL} ]]>"
    assert feed.find(f"{ATOM}entry/{ATOM}link").get("href") == "a%20b%26c.html"
    index = (tmp_path / "reports" / "index.html").read_text()
    assert "<script>alert" not in index
    assert 'href="a%20b%26c.html"' in index


def test_no_page_asks_for_anything_from_outside(site):
    for name, html in pages(site).items():
        assert not re.search(r"""(src|href)=["']?(https?:|//)|@import|url\(""", html), name
        assert "default-src 'none'" in html


def test_a_study_of_ones_own_hides_the_published_one_of_its_name(results, tmp_path):
    store_study(tmp_path / "published", "clean", question="The published one?")
    store_study(tmp_path, "clean", question="My own?")
    write_site(tmp_path, tmp_path / "reports", CARDS)

    index = (tmp_path / "reports" / "index.html").read_text()
    assert "My own?" in index
    assert "The published one?" not in index


def test_the_published_ones_alone_are_a_results_folder_too(results, tmp_path):
    done = write_site(results / "published", tmp_path, CARDS)

    assert (done.studies, done.searches, done.comparisons) == (2, 0, 1)


def test_a_results_folder_without_studies_is_refused(tmp_path):
    with pytest.raises(UserError, match="no study in"):
        write_site(tmp_path, tmp_path / "reports", CARDS)


@pytest.mark.parametrize("name", ["index", "tricks"])
def test_a_study_may_not_be_called_like_a_page_of_the_site(tmp_path, name):
    store_study(tmp_path, name)
    with pytest.raises(UserError, match=f"'{name}' would replace a page of the site; rename its folder"):
        write_site(tmp_path, tmp_path / "reports", CARDS)


def test_a_comparison_may_not_be_called_like_a_study(tmp_path):
    store_study(tmp_path, "clean")
    store_study(tmp_path, "noisy")
    (tmp_path / "compare.toml").write_text(COMPARE.replace("clean-or-noisy", "clean"))
    with pytest.raises(UserError, match="'clean' names two"):
        write_site(tmp_path, tmp_path / "reports", CARDS)


def test_a_time_that_is_none_is_refused(tmp_path):
    store_study(tmp_path, "clean", created="yesterday")
    with pytest.raises(UserError, match="clean: created = 'yesterday' is no ISO 8601 time"):
        write_site(tmp_path, tmp_path / "reports", CARDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"noisy"', '"nosiy"'), "page 1: unknown study 'nosiy'; did you mean 'noisy'?"),
        (('"clean", "noisy"', '"clean"'), "page 1: studies"),
        (("preface", "prefix"), "page 1: prefix: unknown key; did you mean 'preface'? Allowed: name, studies"),
        (("clean-or-noisy", "Clean/or"), "page 1: name = 'Clean/or'"),
        (("[[page]]", "[[page"), "not valid TOML"),
        (("[[page]]", "[page]"), "it holds [[page]] tables and nothing else, but has [page]"),
        (("[[page]]", "style = 1\n[[page]]"), "nothing else, but has style"),
    ],
)
def test_a_broken_list_of_comparisons_is_refused(tmp_path, change, message):
    store_study(tmp_path, "clean")
    store_study(tmp_path, "noisy")
    (tmp_path / "compare.toml").write_text(COMPARE.replace(*change))
    with pytest.raises(UserError, match=re.escape(message)):
        write_site(tmp_path, tmp_path / "reports", CARDS)


def test_a_folder_that_cannot_be_written_is_refused(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--reports"):
        write_site(results, tmp_path / "file" / "reports", CARDS)


def test_the_site_needs_no_torch():
    code = "import sys, harness.report.site; print(*{'torch', 'timm', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_command_writes_a_page_for_every_trick(results, tmp_path):
    out = CliRunner().invoke(app, ["site", "--results", str(results), "--reports", str(tmp_path)])

    tricks = len(list((tmp_path / "tricks").glob("*.html")))
    assert out.output == f"site: {tmp_path}/index.html (studies 2, searches 1, comparisons 1, tricks {tricks})\n"
    assert tricks > 100
    assert (tmp_path / "tricks" / "label_smoothing.html").is_file()


def test_a_broken_declaration_is_named_and_passed_over(tmp_path):
    """With what needs it, and nothing else: in the site, and in the reports of all."""
    for name in ("whole", "second", "broken"):
        store_study(tmp_path, name)
    (tmp_path / "broken" / "study.json").write_text('{"study": "broken", "margin": Infinity}')
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "search.json").write_text("{")
    (tmp_path / "compare.toml").write_text(
        '[[page]]\nname = "two"\nstudies = ["whole", "broken"]\ntitle = "T"\n'
        '[[page]]\nname = "fine"\nstudies = ["whole", "second"]\ntitle = "T"\n'
    )
    done = write_site(tmp_path, tmp_path / "site", CARDS)

    assert (done.studies, done.searches, done.comparisons) == (2, 0, 1)
    assert sorted(p.stem for p in (tmp_path / "site").glob("*.html")) == ["fine", "index", "second", "tricks", "whole"]
    left_out = "\n".join(done.left_out)
    for said in ("broken/study.json cannot be read as a study", "lost/search.json cannot be", "two.html: it compares"):
        assert said in left_out

    def report(*words):
        return CliRunner().invoke(app, ["report", *words, "--results", str(tmp_path), "--reports", str(tmp_path / "r")])

    out = report()
    assert out.exit_code == 0
    assert sorted(p.stem for p in (tmp_path / "r").glob("*.html")) == ["second", "whole"]
    assert "left out: " in out.stderr
    assert "broken/study.json cannot be read" in out.stderr
    assert isinstance(report("whole", "broken").exception, UserError), "it was asked for"
    assert isinstance(report("broken").exception, UserError)


def test_the_pages_of_published_studies_are_committed():
    root = Path(__file__).parents[3]
    names = [p.parent.name for p in (root / "results" / "published").glob("*/study.json")]
    pages = [f"reports/{name}.{ending}" for name in names for ending in ("html", "csv")]
    done = subprocess.run(["git", "check-ignore", *pages], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("this is no clone of the repository")

    assert done.stdout == ""
