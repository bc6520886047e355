"""From what was asked for to a manifest and runs; nothing is trained."""

from contextlib import ExitStack

import pytest

from harness.errors import UserError
from harness.experiment import load_experiment
from harness.names import check_free
from harness.store.reader import read_manifest
from harness.store.schema import Manifest, Probe
from harness.store.writer import prepare, write_manifest
from harness.study.designs import Design, PlannedArm
from harness.study.plan import make_plan, scope_of, study_name
from harness.study.runner import other_question, record_look
from harness.study.runner import taken as carried
from harness.training.place import Place
from harness.workflow.events import Waiting
from harness.workflow.training import opened


@pytest.fixture
def plan(tmp_path):
    def make(*asked, design="one_at_a_time", seeds=2, overrides=None, **options):
        return make_plan(
            load_experiment("digits", overrides), asked, design=design,
            seeds=range(seeds) if isinstance(seeds, int) else seeds,
            place=Place(data_root=tmp_path, device="cpu", threads=1), results=tmp_path,
            **{"images": "1" * 16, "command": "", "toml": ""} | options,
        )  # fmt: skip

    return make


def test_arms_that_a_design_makes_of_clashing_tricks_are_skipped_without_runs(plan):
    made = plan("mixup", "cutmix", "ema", design="factorial")
    arms = {a.label: a for a in made.manifest.arms}

    assert len(arms) == 8
    skipped = {label for label, a in arms.items() if a.skipped}
    assert skipped == {"cutmix+mixup", "cutmix+ema+mixup"}
    assert "cutmix + mixup: " in arms["cutmix+mixup"].skipped
    assert arms["cutmix+mixup"].run_ids == {}
    assert len(made.specs) == 6 * 2
    assert made.manifest.factors == ("mixup", "cutmix", "ema")
    assert "2 of 8 arms cannot run" in made.manifest.notes[0]
    assert not skipped & set(made.manifest.family)


def test_each_arm_has_the_kind_of_its_tricks(plan):
    made = plan("mixup", "batch_norm+ema", "erm_baseline")

    assert [(a.label, a.kind) for a in made.manifest.arms] == [
        ("baseline", "addition"), ("mixup", "addition"), ("batch_norm+ema", "removal"), ("erm_baseline", "control"),
    ]  # fmt: skip


@pytest.mark.parametrize(("design", "asked"), [("one_at_a_time", ["cutmix+mixup"]), ("pairs", ["mixup+cutmix", "ema"])])
def test_a_clash_inside_what_was_asked_for_as_one_arm_is_refused(plan, design, asked):
    with pytest.raises(UserError, match="cutmix \\+ mixup: "):
        plan(*asked, design=design)


def test_a_sweep_has_one_arm_for_each_value_over_the_overrides_of_the_experiment(plan):
    made = plan("cutmix.alpha=0.5,2.0", design="sweep", overrides={"tricks": {"cutmix": {"alpha": 1.0, "prob": 0.25}}})
    base, low, high = made.manifest.arms

    assert base.tricks == {}
    assert (low.label, high.label) == ("cutmix(alpha=0.5)", "cutmix(alpha=2.0)")
    assert low.tricks["cutmix"]["alpha"] == 0.5
    assert high.tricks["cutmix"] == low.tricks["cutmix"] | {"alpha": 2.0}
    assert low.tricks["cutmix"]["prob"] == 0.25
    assert len({s.run_id for s in made.specs}) == 6
    assert made.manifest.factors == ()


def test_an_impossible_value_of_a_sweep_is_refused(plan):
    with pytest.raises(UserError, match=r"mixup\.alpha=-1: input should be"):
        plan("mixup.alpha=0.2,-1", design="sweep")


def test_equal_arms_of_two_designs_are_equal_runs(plan):
    alone = {s.run_id for s in plan("mixup", "ema").specs}

    assert alone < {s.run_id for s in plan("ema", "mixup", design="factorial").specs}


def test_the_limit_on_arms_reaches_the_design(plan):
    assert len(plan("mixup", "ema", "sam", "dropout", design="fractional", max_arms=16).manifest.arms) == 16
    with pytest.raises(UserError, match="limit is 2"):
        plan("mixup", "ema", design="factorial", max_arms=2)


def test_a_manifest_without_factors_and_notes_can_still_be_read(plan):
    document = plan("mixup").manifest.model_dump(mode="json", exclude={"factors", "notes"})

    assert Manifest.model_validate(document).factors == Manifest.model_validate(document).notes == ()


@pytest.mark.parametrize(
    ("design", "asked", "name"),
    [
        ("one_at_a_time", ["mixup", "ema"], "digits-ema-mixup"),
        ("one_at_a_time", ["ema+mixup", "mixup+ema"], "digits-ema+mixup"),
        ("leave_one_out", ["label_smoothing", "ema"], "digits-leave-one-out-ema-label-smoothing"),
        ("cumulative", ["mixup", "ema"], "digits-cumulative-mixup-ema"),
        ("sweep", ["mixup.alpha=0.1,0.2"], "digits-sweep-mixup.alpha-0.1-0.2"),
        ("aa", [], "digits-aa"),
    ],
)
def test_names_of_studies(design, asked, name):
    assert study_name("digits", design, asked) == name


def test_long_names_are_cut_and_stay_different():
    names = {study_name("digits", "sweep", [f"mixup.alpha={','.join(f'0.{i}{j}' for i in range(20))}"]) for j in "12"}

    assert len(names) == 2
    assert all(len(n) < 80 for n in names)
    assert study_name("digits", "pairs", list("abcd")) == study_name("digits", "pairs", list("dcba"))
    assert study_name("digits", "cumulative", list("abcd")) != study_name("digits", "cumulative", list("dcba"))


def test_a_study_is_told_from_another_of_its_name_by_what_it_trains(plan, tmp_path):
    def kept(**settings):
        return plan("mixup", "ema", **settings).manifest

    folder = tmp_path / "study"
    folder.mkdir()
    assert other_question(folder, kept()) == [], "there was none"
    write_manifest(folder, kept())

    assert other_question(folder, kept()) == []
    assert other_question(folder, kept(seeds=5)) == [], "more seeds of the same runs"
    assert other_question(folder, plan("mixup", "cutout", "ema").manifest) == [], "one more arm"
    assert other_question(folder, plan("cutout", "ema").manifest) == ["it has the arms ema, mixup"]
    assert other_question(folder, kept(overrides={"recipe": {"epochs": 3}})) == [
        "settings.recipe.epochs was 80 and is 3"
    ]
    assert other_question(folder, kept(overrides={"tricks": {"ema": {"decay": 0.5}}})) == [
        "arms.ema.ema.decay was 0.98 and is 0.5"
    ]
    assert other_question(folder, kept(overrides={"experiment": {"margin": 2.0}})) == ["margin was 0.5 and is 2.0"]
    assert other_question(folder, kept(images="2" * 16)) == ["images was 11111111 and is 22222222"]


def test_a_study_of_an_earlier_version_is_told_by_its_runs(plan, tmp_path):
    old = plan("mixup").manifest.model_copy(update={"settings": {}, "data": "", "command": "harness ablate mixup"})
    write_manifest(tmp_path, old)

    assert other_question(tmp_path, plan("mixup", seeds=3).manifest) == []
    assert other_question(tmp_path, plan("mixup", overrides={"recipe": {"epochs": 3}}).manifest) == [
        "its command was harness ablate mixup"
    ]


def test_a_name_that_nobody_chose_is_made_another_one_where_it_is_taken(plan, tmp_path):
    first, other = plan("mixup"), plan("mixup", overrides={"recipe": {"epochs": 3}})
    for wanted, made in ((first, "digits-mixup"), (other, f"digits-mixup-{other.mark}"), (first, "digits-mixup")):
        with ExitStack() as held:
            got, said = taken(opened(held, wanted, tmp_path, named=False))
            write_manifest(tmp_path / got.manifest.study, got.manifest)
        assert (got.manifest.study, said) == (made, [])

    assert plan("mixup", seeds=7, overrides={"recipe": {"epochs": 3}}).mark == other.mark, "more seeds, same question"
    expected = r"study digits-mixup .*recipe.epochs was 80 and is 3.*--name"
    with pytest.raises(UserError, match=expected), ExitStack() as held:
        taken(opened(held, other, tmp_path, named=True))


def test_seeds_from_another_first_one_are_another_study_with_a_name_of_its_own(plan, tmp_path):
    first, later, longer = plan("mixup"), plan("mixup", seeds=range(10, 12)), plan("mixup", seeds=range(10, 15))
    named = plan("mixup", seeds=range(10, 12), name="digits-mixup").manifest
    write_manifest(tmp_path, first.manifest)

    assert later.manifest.study == longer.manifest.study == "digits-mixup-seeds-from-10"
    assert other_question(tmp_path, named) == ["first seed was 0 and is 10"]
    write_manifest(tmp_path, named)
    assert other_question(tmp_path, longer.manifest) == [], "more seeds after the same first one"
    assert first.mark != later.mark == longer.mark
    assert first.mark == plan("mixup", seeds=7).mark


def test_looks_stay_in_the_declaration_and_the_same_number_of_seeds_is_no_new_one(plan, tmp_path):
    for seeds, looks in ((5, (5,)), (10, (5, 10)), (10, (5, 10)), (7, (5, 7, 10))):
        with ExitStack() as held:
            got, _ = taken(opened(held, plan("mixup", seeds=seeds), tmp_path, named=True))
            folder = tmp_path / got.manifest.study
            write_manifest(folder, got.manifest)
            record_look(folder)
        assert read_manifest(folder).looks == looks


def test_a_study_of_an_earlier_version_was_looked_at_with_the_seeds_that_it_has(plan, tmp_path):
    made, folder = plan("mixup", seeds=3), tmp_path / "digits-mixup"
    folder.mkdir()
    (folder / "study.json").write_text(made.manifest.model_dump_json(exclude={"looks", "level", "replicates"}))

    assert read_manifest(folder).looks == ()
    assert carried(folder, made).manifest.looks == (3,)
    assert carried(tmp_path / "none" / "s", made).manifest.looks == ()


def test_looks_at_the_same_runs_count_in_whatever_study_they_were_taken(plan, tmp_path):
    def look(name, planned):
        prepare(tmp_path / name)
        write_manifest(tmp_path / name, planned.renamed(name).manifest)
        record_look(tmp_path / name)

    look("five", plan("mixup", seeds=5))
    look("other", plan("ema", seeds=7))
    look("later", plan("mixup", seeds=range(10, 18)))
    planned = plan("mixup", seeds=10, level=0.05)

    assert carried(tmp_path / "again", planned).manifest.looks == (5,)
    assert carried(tmp_path / "again", planned).manifest.level is None, "one look was not planned"
    assert carried(tmp_path / "again", plan("sam", seeds=10, level=0.05)).manifest.level == 0.05


def test_probes_stay_declared_while_their_arm_is_what_it_was(plan, tmp_path):
    made, folder = plan("mixup", "ema"), tmp_path / "s"
    probes = tuple(
        Probe(arm=a.label, factor=0.1, run_ids={0: "x"}, identity=a.identity) for a in made.manifest.arms[1:]
    )
    prepare(folder)
    write_manifest(folder, made.renamed("s").manifest.model_copy(update={"probes": probes}))

    assert carried(folder, made.renamed("s")).manifest.probes == probes
    assert carried(folder, plan("ema").renamed("s")).manifest.probes == probes[1:]


def test_arms_that_a_design_calls_by_their_old_labels_keep_them(plan):
    asked = plan("mixup.alpha=0.4,1.0", design="sweep").manifest
    values = asked.arms[1].tricks  # all of them, where the sweep named one
    arms = (PlannedArm(()), PlannedArm(("mixup",), params=values, called="mixup(alpha=0.4)"))
    made = plan("mixup(alpha=0.4)", design=Design("one_at_a_time", arms), name="again", replicates="s").manifest

    assert len(values["mixup"]) > 1
    assert made.arms[1].label == "mixup(alpha=0.4)" == asked.arms[1].label
    assert made.arms[1].run_ids == asked.arms[1].run_ids
    assert made.replicates == "s"


def taken(opening):
    """What comes of opening a study, and the events until then."""
    said = []
    while True:
        try:
            said.append(next(opening))
        except StopIteration as end:
            return end.value, said


def test_a_study_has_one_writer_and_the_next_waits_with_a_word(plan, tmp_path):
    made = plan("mixup")
    with ExitStack() as held, ExitStack() as later:
        taken(opened(held, made, tmp_path, named=True))
        second = opened(later, made, tmp_path, named=True)

        assert next(second) == Waiting("digits-mixup")
        held.close()
        assert taken(second)[0].manifest == made.manifest


def test_an_arm_of_a_sweep_is_there_once_however_often_it_is_asked_for(plan):
    made = plan("mixup.alpha=0.1,0.2", "mixup.alpha=0.2,0.30,0.3", "mixup.prob=1.0,0.5", design="sweep")

    labels = [f"mixup({v})" for v in ("alpha=0.1", "alpha=0.2", "alpha=0.3", "prob=0.5")]
    assert [a.label for a in made.manifest.arms] == ["baseline", *labels]
    assert len({s.run_id for s in made.specs}) == len(made.specs) == 10
    assert made.manifest.notes == ("mixup(prob=1.0) has the values of mixup(alpha=0.2), so it is no arm of its own.",)


@pytest.mark.parametrize("name", ["index", "tricks", "published", "bench", "Index", "", "a b", "../x", "a" * 101])
def test_a_name_that_a_page_or_a_folder_of_ours_has_is_refused(plan, name):
    with pytest.raises(UserError, match="choose another with --name"):
        plan("mixup", name=name)


@pytest.mark.parametrize("place", ["", "published/"])
@pytest.mark.parametrize(("kind", "other"), [("study", "search"), ("search", "study")])
def test_a_study_and_a_search_do_not_share_a_name(tmp_path, place, kind, other):
    folder = tmp_path / f"{place}s"
    folder.mkdir(parents=True)
    check_free(tmp_path, "s", kind)
    (folder / f"{other}.json").touch()

    with pytest.raises(UserError, match=f"{folder} holds a {other}, so a {kind} cannot have its name"):
        check_free(tmp_path, "s", kind)
    check_free(tmp_path, "s", other)


def test_the_scope_tells_the_size_of_images_and_the_classes_where_they_are_asked_for():
    assert scope_of(load_experiment("digits")) == "digits, 100 training images, digits_resnet width 16, 80 epochs"
    changed = load_experiment("digits", {"data": {"image_size": 16, "classes": 3}})
    assert scope_of(changed) == "digits, 100 training images, 16 px, 3 classes, digits_resnet width 16, 80 epochs"
    assert "imagenette2, all training images, 128 px," in scope_of(load_experiment("imagenette"))


def test_a_plan_says_what_the_library_builds_into_the_network(plan):
    told = plan("mixup", overrides={"model": {"name": "timm/ghostnet_050", "width": None}}).manifest

    assert told.network == "Tricks that the library builds in: switched off in the baseline: dropout 0.2 (1x)."
    assert told.sentences == (told.network,)
    assert plan("mixup").manifest.network == ""
    with pytest.raises(UserError, match="unknown timm model 'ghostnet_05'"):
        plan("mixup", overrides={"model": {"name": "timm/ghostnet_05", "width": None}})


def test_a_study_of_classes_of_different_size_proposes_metrics_that_weigh_them_alike(plan):
    (note,) = plan("mixup", overrides={"data": {"imbalance": 0.1}}).manifest.notes
    assert "harness report --metric balanced_accuracy" in note
    assert plan("mixup").manifest.notes == ()
