import json
import math
import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from harness.analysis.types import DesignAnalysis, Estimate
from harness.cli import app
from harness.errors import UserError
from harness.report.evidence import Origin, TrickEvidence, gather
from harness.report.load import Loaded
from harness.report.pages.tricks import render_trick, render_tricks, write_tricks
from harness.report.text import numbers
from harness.store.reader import StudyData
from webpage import Page

EVIL = '<script>alert("1")</script>'


def trick(name, family="losses", **changed):
    return {
        "trick": True, "kind": "addition",
        "name": name, "family": family, "summary": f"{name} in short", "formula": "L = x",
        "paper": "A 2020, arXiv:2001.00001", "expect": "little", "differs": "nothing", "cost": 1.25, "excludes": {},
        "version": 3, "hooks": ["batch"], "parameters": [],
    } | changed  # fmt: skip


def parameter(**changed):
    return {"name": "alpha", "default": 1.0, "domain": "> 0", "search": [0.05, 8.0, "log"]} | changed


def other(name, **changed):
    return {
        "trick": False,
        "name": name,
        "family": "text",
        "kind": "design",
        "reason": "Because.",
        "command": "",
    } | changed


def read(cards):
    return Page(render_tricks(cards))


def test_every_part_of_a_card_is_on_the_page():
    page = read([trick("focal", parameters=[parameter()], excludes={"mixup": "one target"}, differs="the sign")])

    shown = page.text_of("focal")
    for part in (
        "focal in short", "L = x", "arXiv:2001.00001", "the sign", "little", "mixup: one target", "1.25 times",
        "batch", "alpha 1 > 0 0.05 to 8, log",
    ):  # fmt: skip
        assert part in shown


def test_a_card_says_its_kind_and_the_list_marks_what_is_no_addition():
    page = read([trick("a", kind="fault"), trick("b")])
    alone = Page(render_trick(trick("a", kind="fault"), TrickEvidence(), {"a"}))

    assert page.text_of("a").startswith("a a in short fault")
    assert "Kind fault: a known mistake" in page.text_of("a")
    assert page.text_of("b").startswith("b b in short 1.25×")
    assert "Kind addition: " in page.text_of("b")
    assert "Kind fault" in " ".join(piece.strip() for piece in alone.pieces)


def test_families_and_tricks_have_anchors_in_order():
    page = read([trick("b", "mixing"), trick("z"), trick("a")])

    assert [i for i in page.ids if i in ("family-losses", "family-mixing", "a", "b", "z")] == [
        "family-losses", "a", "z", "family-mixing", "b",
    ]  # fmt: skip
    assert page.links == ["#family-losses", "#family-mixing"]


def test_other_names_stand_in_a_section_of_their_own():
    page = read([other("adv", reason="See `pgd`, not `gone`.", command="harness ablate pgd"), trick("pgd")])

    assert page.text_of("adv") == "adv design See pgd , not gone. harness ablate pgd"
    assert page.links == ["#family-losses", "#other-names", "#pgd"]
    assert page.ids.index("other-names") > page.ids.index("pgd")


def test_without_other_names_there_is_no_such_section():
    assert "other-names" not in read([trick("a")]).ids


def test_conflicts_with_one_reason_are_told_once_and_link_to_cards():
    page = read([trick("a", excludes={"b": "both mix", "c": "both mix", "d": "slow"}), trick("b"), trick("c")])

    assert page.text_of("a").count("both mix") == 1
    assert page.text_of("a").count("slow") == 1
    assert page.links[-2:] == ["#b", "#c"], "d has no card here"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (parameter(default=1.6666666666666667), "alpha 1.667 > 0 0.05 to 8, log"),
        (parameter(default=None, domain="number or none"), "alpha none number or none 0.05 to 8, log"),
        (parameter(default=False, domain="boolean", search=[False, True]), "alpha false boolean false, true"),
        (parameter(default=2, search=None), "alpha 2 > 0 not searched"),
        (parameter(default="cosine", search=["cosine", "linear"]), "alpha cosine > 0 cosine, linear"),
        (parameter(default=(0.5, 0.75), domain=""), "alpha 0.5, 0.75 – 0.05 to 8, log"),
        (parameter(search=[None, 0.2]), "alpha 1 > 0 none, 0.2"),
    ],
)
def test_values_are_written_as_one_types_them(given, expected):
    assert expected in read([trick("a", parameters=[given])]).text_of("a")


def test_text_of_cards_is_escaped():
    html = render_tricks(
        [
            trick("a", EVIL, summary=EVIL, formula=EVIL, excludes={EVIL: EVIL}, parameters=[parameter(name=EVIL)]),
            other("b", reason=EVIL, command=EVIL),
        ]
    )

    assert "alert(&#34;1&#34;)" in html
    assert "<script>alert" not in html


def test_the_page_asks_for_nothing_from_outside():
    html = render_tricks([trick("a"), other("b")])

    assert "default-src 'none'" in html
    assert not re.search(r"https?://|@import|url\(", html)


def test_a_page_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another place with --html"):
        write_tricks([trick("a")], tmp_path / "file" / "tricks.html")


def test_the_command_writes_every_card(tmp_path):
    page = tmp_path / "reports" / "tricks.html"
    out = CliRunner().invoke(app, ["tricks", "--html", str(page)])
    html = page.read_text()

    assert out.output == f"tricks: {page}\n"
    assert 'id="mixup"' in html
    assert 'id="wgan_critic"' in html


def test_one_card_and_the_page_together_are_refused(tmp_path):
    out = CliRunner().invoke(app, ["tricks", "mixup", "--html", str(tmp_path / "x.html")])

    assert isinstance(out.exception, UserError)
    assert not (tmp_path / "x.html").exists()


# Pages of single tricks.


def with_run(study, trick, version):
    """The study with a specification in the run of each arm, as the store has it."""
    spec = {"arm": {"tricks": [{"name": trick, "version": version, "params": {}}]}}
    return study.runs.assign(spec=json.dumps(spec))


def origin(study, name="digits-many", version=3, effects=None, tricks=None):
    analysis = study.analysis if effects is None else replace(study.analysis, effects=tuple(effects))
    manifest = study.manifest
    if tricks is not None:
        arms = [a.model_copy(update={"tricks": tricks.get(a.label, a.tricks)}) for a in manifest.arms]
        manifest = manifest.model_copy(update={"arms": tuple(arms)})
    data = StudyData(with_run(study, "mixup", version), study.curves, None)
    return Origin(name, f"{name}.html", Loaded(manifest, data, analysis, None, study.own, study.points))


def shown(html):
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def mixup_page(*origins, **changed):
    card = trick("mixup", parameters=[parameter(default=0.2)], **changed)
    return render_trick(card, gather(origins).get("mixup", TrickEvidence()), {"mixup", "ema"})


def test_each_study_is_a_row_with_effect_interval_n_margin_verdict_and_cost(study):
    text = shown(mixup_page(origin(study)))

    (e,) = (e for e in study.analysis.effects if e.arm == "mixup")
    assert f"{numbers.signed(e.mean)} {numbers.interval(e.low, e.high)} n = 10 of 10 pairs, margin ±0.5" in text
    assert "▲ helps time 1.03× [1.00, 1.06] memory 1.10× [1.09, 1.11]" in text
    assert "Measured alone in 1 study" in text


def test_links_lead_out_of_the_folder_of_the_pages(study):
    html = mixup_page(origin(study))

    assert '<a href="../digits-many.html">digits-many</a>' in html
    assert 'href="../index.html"' in html


def test_hyperparameters_are_shown_where_they_are_not_the_default(study):
    assert "alpha = 1" in shown(mixup_page(origin(study))), "the card's default is 0.2 and the study's value 1.0"
    same = origin(study, tricks={"mixup": {"mixup": {"alpha": 0.2}}})
    assert "default hyperparameters" in shown(mixup_page(same))


def test_a_default_that_is_a_tuple_equals_the_list_of_a_manifest(study):
    card = trick("mixup", parameters=[parameter(default=(0.5, 0.75))])
    same = origin(study, tricks={"mixup": {"mixup": {"alpha": [0.5, 0.75]}}})

    assert "default hyperparameters" in shown(render_trick(card, gather([same])["mixup"], ()))


def test_effects_of_an_older_version_of_the_trick_are_marked(study):
    assert "measured with version" not in shown(mixup_page(origin(study, version=3)))
    assert "measured with version 2 of the trick, which is now 3" in shown(mixup_page(origin(study, version=2)))


def test_stacks_are_listed_apart_and_called_what_they_are(study):
    html = render_trick(trick("cutmix"), gather([origin(study)])["cutmix"], {"cutmix"})

    assert "Not measured alone yet" in shown(html)
    assert "1 arm with this trick and others" in shown(html)
    assert '<a href="cutmix.html">cutmix</a>+<wbr>label_<wbr>smoothing' in html


def test_a_trick_that_nothing_measured_says_how_to_measure_it():
    text = shown(render_trick(trick("sam"), TrickEvidence(), {"sam"}))

    assert "Not measured yet" in text
    assert "make ablate TRICK=sam" in text


def shifted(study, by):
    """The same effects moved by some points, as a study of other runs would have them."""
    return [
        replace(
            e, treated=tuple(v + by for v in e.treated), mean=e.mean + by, low=e.low + by, high=e.high + by,
            base=tuple(v - 1 for v in e.base),
        )
        for e in study.analysis.effects
    ]  # fmt: skip


def studies(study, count):
    """Studies of other images, which are independent."""
    found = [
        origin(study, f"s{i}", effects=[replace(e, base=tuple(v - i for v in e.base)) for e in shifted(study, 0.1 * i)])
        for i in range(count)
    ]
    return [
        o._replace(loaded=replace(o.loaded, analysis=replace(o.loaded.analysis, blocks=f"images {i}")))
        for i, o in enumerate(found)
    ]


def test_four_studies_are_compared_but_not_averaged(study):
    text = shown(mixup_page(*studies(study, 4)))

    assert "Together: signs agree" in text
    assert "Welch&#39;s ANOVA, F(3," in text
    assert "No mean effect: 4 studies hardly tell" in text


def test_studies_of_the_same_blocks_are_not_averaged(study):
    found = [
        o._replace(loaded=replace(o.loaded, analysis=replace(o.loaded.analysis, blocks="images")))
        for o in studies(study, 5)
    ]

    assert "No mean effect: it takes studies of blocks and runs of their own" in shown(mixup_page(*found))


def test_five_studies_of_one_setting_are_averaged(study):
    found = studies(study, 5)
    means = [e.mean for o in found for e in o.loaded.analysis.effects if e.arm == "mixup"]

    # Every workload counts the same.
    assert (
        f"Mean over these 5 workloads (random effects, Hartung-Knapp interval): {numbers.signed(sum(means) / 5)} ["
        in shown(mixup_page(*found))
    )


def test_other_hyperparameters_are_another_treatment(study):
    found = [
        *studies(study, 4),
        origin(study, "other", effects=shifted(study, 1), tricks={"mixup": {"mixup": {"alpha": 9}}}),
    ]

    assert "No mean effect: the hyperparameters differ" in shown(mixup_page(*found))


def test_shared_runs_are_not_averaged(study):
    assert "No mean effect: it takes studies of blocks and runs of their own" in shown(
        mixup_page(origin(study, "a"), origin(study, "b"))
    )


def test_metrics_have_axes_of_their_own(study):
    other = origin(study, "losses")
    analysis = replace(other.loaded.analysis, metric="test_nll", unit="", higher_is_better=False, margin=math.nan)
    html = mixup_page(origin(study), other._replace(loaded=replace(other.loaded, analysis=analysis)))

    assert html.count('<table class="lanes"') == 2
    assert "better →" in html
    assert "← better" in html
    assert not re.search(r"\bnan\b", html)


def test_an_arm_without_a_result_has_its_reason_and_no_mark(study):
    html = render_trick(trick("swin"), gather([origin(study)])["swin"], ())

    assert "out of memory" in shown(html)
    assert html.count('<svg class="lane"') == 0


def test_published_figures_name_the_studies_of_each_direction(study):
    text = shown(mixup_page(origin(study)))

    assert "+1.35 (94.05 → 95.40 % accuracy)" in text
    assert "same direction digits-many" in text


def test_a_design_tells_what_the_trick_adds_inside_a_stack(study):
    share = Estimate("mixup", 0.5, 0.1, 0.9, 0.2, 0.01, 0.02, 10)
    design = DesignAnalysis("test_accuracy", "points", True, ("mixup",), None, (), (), (share,), (), (), (), ())
    found = origin(study)
    found = found._replace(loaded=replace(found.loaded, design=design))

    assert "left out of the full stack +0.50 [0.10, 0.90] 10" in shown(mixup_page(found))


def test_a_page_of_a_trick_is_escaped(study):
    card = trick("mixup", family=EVIL, summary=EVIL, formula=EVIL, paper=EVIL, excludes={EVIL: EVIL})
    evil = origin(study, EVIL)

    html = render_trick(card, gather([evil])["mixup"], {"mixup"})
    assert "<script>alert" not in html
    assert not re.search(r"""(src|href)=["']?https?:|@import|url\(""", html)


def test_the_overview_has_the_verdicts_and_links_to_the_pages(study):
    cards = [trick("mixup"), trick("sam"), trick("unknown_trick")]
    html = render_tricks(cards, gather([origin(study)]), root="")

    assert 'href="tricks/mixup.html"' in html
    assert 'aria-label="helps in digits-many"' in html
    assert "not yet: make ablate TRICK=unknown_trick" in shown(html)


def test_the_overview_outside_a_site_links_to_nothing_outside_itself():
    assert 'href="tricks/' not in render_tricks([trick("mixup")])
