import math

import optuna
import pytest

from harness.experiment import load_experiment
from harness.testing import tiny_info
from harness.tuning.objective import Score
from harness.tuning.peers import Peers
from harness.tuning.plan import plan_search
from harness.tuning.storage import open_storage, quiet
from harness.tuning.trials import Tuner

OPTIONS = {
    "trials": 6, "seeds": 2, "fresh": 3, "nuisance": None, "objectives": "accuracy", "sampler": "tpe", "pruner": None,
    "name": None, "command": "harness search mixup", "toml": "", "images": "images",
}  # fmt: skip


@pytest.fixture
def plan():
    """Resolve a search on digits; nothing is trained."""

    def make(*asked, overrides=None, **options):
        return plan_search(load_experiment("digits", overrides), asked or ("mixup",), tiny_info(), **OPTIONS | options)

    return make


def hill(spec):
    """An accuracy with its top, 0.9, at lr = 0.05 and alpha = 1, that seeds shift by 0.001 each."""
    value = 0.9 + 0.001 * spec.seed - 0.02 * abs(math.log(spec.recipe.lr / 0.05))
    for trick in spec.arm.tricks:
        value -= 0.01 * abs(math.log(trick.params.get("alpha", 1.0)))
    return Score("ok", "", {"accuracy": value, "seconds": spec.recipe.lr, "memory": 100})


@pytest.fixture(name="hill")
def _hill():
    return hill


class Searching:
    """A search in a folder, as one process does it."""

    def __init__(self, folder):
        self.folder = folder
        self.storage = None

    def __call__(self, plan, evaluate=hill, workers=1, storage=None, deadline=math.inf):
        """Do what is left of a plan; returns the search."""
        quiet()
        self.storage = storage or self.storage or optuna.storages.InMemoryStorage()
        peers = Peers(self.folder)
        try:
            search = Tuner(plan, self.storage, peers, evaluate)
            self.done = list(search.run(workers, deadline, peers.stopped.set))
            peers.leave()
        finally:
            peers.close()
        return search

    def sqlite(self):
        self.storage = open_storage(None, self.folder)
        return self.storage


@pytest.fixture
def searching(tmp_path):
    return Searching(tmp_path)


@pytest.fixture
def listed():
    """The trials of an arm as comparable values."""

    def of(search, arm=0):
        return [(t.state.name, t.params, t.values, t.intermediate_values) for t in search.trials(arm)]

    return of
