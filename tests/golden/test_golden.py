"""Numbers that must not change unnoticed: run ids, which name stored results for ever, and the baseline's first losses.

If a test fails because the change was meant:

* a run id: results that users have stored are not found any more. An option that is new to an experiment or recipe must
  be marked `Added`, which keeps old ids; a bundled experiment or the defaults of a trick change for a reason that
  belongs into CHANGELOG.md; a trick whose numbers change gets another `Info.version`.
* the losses: every result of the same run id is another one than before. Bump `harness.identity.NUMBERS`, so that
  stored results are not mistaken for new ones, and explain it in CHANGELOG.md.

Then write the new values with `python tests/golden/test_golden.py`, and look at the difference before you commit it.
"""

import itertools
import json
from pathlib import Path

import pytest

from harness.experiment import Arm, load_experiment, spec_of
from harness.identity import NUMBERS
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry

FILE = Path(__file__).with_name("golden.json")
RUNS = [("digits", arm, seed) for arm in ("baseline", "mixup") for seed in (0, 7)]
RUNS += [("cifar10", arm, 0) for arm in ("baseline", "mixup")]
STEPS, SAME = 20, 5


def golden():
    return json.loads(FILE.read_text())


def spec(name, arm, seed):
    experiment = load_experiment(name)
    tricks = [] if arm == "baseline" else [registry.make(arm, experiment.tricks.get(arm))]
    return spec_of(experiment, Arm(tricks=tuple(t.spec() for t in tricks)), seed)


def first_losses():
    """Losses of the first updates of the baseline on digits, seed 0, in the order of training."""
    session = set_up(spec("digits", "baseline", 0), Place(data_root=Path("unused-by-digits")))
    loss, seen = session.run.loss, []

    def watched(batch):
        value = loss(batch)
        seen.append(float(value.detach()))
        return value

    session.run.loss = watched
    epochs = train(session.run, session.stack, session.loader, session.step, session.lr_factors, dict, Clock())
    next(itertools.dropwhile(lambda _: len(seen) < STEPS, epochs))
    return seen[:STEPS]


@pytest.mark.parametrize(("name", "arm", "seed"), RUNS)
def test_run_ids_are_what_they_were(name, arm, seed):
    assert spec(name, arm, seed).run_id == golden()["run_ids"][f"{name}/{arm}/{seed}"]


def test_the_first_losses_of_the_baseline_are_what_they_were():
    """Another processor sums in another order, and after the fifth update that tips activations that are nearly zero.

    From there losses of one machine with other instruction sets or thread counts differ by up to two per cent.
    """
    losses, expected = first_losses(), golden()["digits_baseline_losses"][str(NUMBERS)]

    assert len(losses) == STEPS
    assert losses[:SAME] == pytest.approx(expected[:SAME], rel=1e-4)
    assert losses == pytest.approx(expected, rel=0.06)


def test_each_numbers_version_has_numbers_of_its_own():
    versions = golden()["digits_baseline_losses"]

    assert list(versions) == [str(i) for i in range(1, NUMBERS + 1)], "write them, see above"
    for old, new in itertools.pairwise(versions.values()):
        assert old[:SAME] != pytest.approx(new[:SAME], rel=1e-4), "a version without another number"


def test_losses_that_changed_are_not_written_under_the_old_version(monkeypatch):
    first = golden()["digits_baseline_losses"]["1"]

    assert with_losses({"1": first}, [*first[:-1], first[-1] * 1.0001], 1) == {"1": first}, "the same but for rounding"
    with pytest.raises(SystemExit, match="bump"):
        with_losses({"1": first}, [first[0] * 1.01, *first[1:]], 1)
    assert set(with_losses({"1": first}, [first[0] * 1.01, *first[1:]], 2)) == {"1", "2"}


def with_losses(versions, losses, numbers):
    """The losses by numbers version with those of this code."""
    known = versions.get(str(numbers))
    if known is None:
        return versions | {str(numbers): losses}
    if known[:SAME] != pytest.approx(losses[:SAME], rel=1e-4):
        raise SystemExit("the losses changed: bump harness.identity.NUMBERS first, and say so in CHANGELOG.md")
    return versions


if __name__ == "__main__":
    losses = [round(value, 7) for value in first_losses()]
    values = {
        "run_ids": {f"{name}/{arm}/{seed}": spec(name, arm, seed).run_id for name, arm, seed in RUNS},
        "digits_baseline_losses": with_losses(golden()["digits_baseline_losses"], losses, NUMBERS),
    }
    FILE.write_text(json.dumps(values, indent=2) + "\n")
