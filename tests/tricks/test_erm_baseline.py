import torch

from harness.experiment import Arm
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import HOOKS, overrides
from harness.tricks.core.erm_baseline import ErmBaseline
from harness.tricks.core.mixup import Mixup
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.stack import Stack


class TestErmBaseline(TrickConformance):
    trick = ErmBaseline
    inert = True


def test_implements_no_hook_so_its_arm_is_the_baseline():
    stack = Stack([ErmBaseline()])

    assert [hook for hook in HOOKS if stack.hooks(hook)] == []
    assert overrides(Mixup(), "batch")  # the check above can fail


def test_is_another_run_than_the_baseline_and_so_measures_the_harness():
    assert Arm(tricks=(ErmBaseline().spec(),)).label == "erm_baseline"


def test_loss_of_an_untrained_net_is_near_the_logarithm_of_the_classes():
    run, batch = tiny_run(width=16), tiny_batch(n=80)

    assert abs(soft_cross_entropy(run.model(batch.x), batch.y).mean() - torch.tensor(10.0).log()) < 0.3
