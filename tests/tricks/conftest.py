from functools import partial
from unittest import mock

import pytest
import torch

from harness.experiment import Arm, Data, Model
from harness.testing import tiny_spec
from harness.tricks import registry

SMALL = {
    # Values with which the tricks act in a training of a few updates on grey digits.
    "alternating_flip": {"force": True},
    "batch_size": {"size": 10},
    "cutmix": {"prob": 1.0},
    "deferred_reweighting": {"start": 0.5},
    "flooding": {"b": 100.0},
    "gradient_clipping": {"limit": 0.02},
    "gradual_unfreezing": {"groups_per_epoch": 2},
    "ghost_batch_norm": {"size": 10},
    "layer_freezing": {"start": 0.0},
    "lookahead": {"k": 2},
    "lr_range_test": {"steps": 20},
    "lr_warmup": {"epochs": 1.0},
    "memory_bank": {"start": 0.0},
    "nesterov": {"momentum": 0.8},
    "pgd_training": {"k": 2},
    "pseudo_label": {"labelled": 0.5, "threshold": 0.1},
    "random_crop": {"mode": "reflect"},
    "random_flip": {"force": True},
    "snapshot_ensemble": {"cycles": 2},
    "step_decay": {"milestones": (0.2, 0.8)},
    "trades": {"k": 2},
    "warmup_cosine": {"epochs": 1.0},
}
"""Everything else has its defaults."""


def make(name):
    return registry.make(name, SMALL.get(name))


def spec_of(make, *names, train_size=60):
    # Imbalanced classes and weight decay, so that the tricks which correct for them act.
    return tiny_spec(epochs=2, batch_size=20, weight_decay=1e-3).model_copy(
        update={
            "data": Data(name="digits", train_size=train_size, val_size=20, test_size=20, imbalance=0.5),
            # Channels last with few channels is nothing for every processor (`layout.layer_at_risk`).
            "model": Model(name="digits_resnet", width=16 if "channels_last" in names else 4),
            "arm": Arm(tricks=tuple(make(name).spec() for name in names)),
        }
    )


@pytest.fixture(autouse=True, scope="session")
def compiler():
    """The first half of torch.compile: Python is traced and guarded, and the operations stay what they were."""
    with mock.patch.object(torch, "compile", partial(torch.compile, backend="eager")):
        yield


@pytest.fixture(scope="session")
def small():
    """A trick by name, with values that act in a tiny training."""
    return make


@pytest.fixture(scope="session")
def small_spec(small):
    """The spec of a tiny training with these tricks, in which nearly every trick acts."""
    return partial(spec_of, small)
