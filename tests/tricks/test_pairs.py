"""Every two tricks that may be combined train together and neither loses its effect to the other.

A fixed sample always, all of them in the slow suite.
"""

import hashlib
import itertools
import tempfile
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from unittest import mock

import pytest

from harness.training import execute as executing
from harness.training.evaluate import predict_all
from harness.training.place import Place
from harness.training.session import Session, set_up
from harness.tricks import registry
from harness.tricks.contract import InitStage
from harness.tricks.distillation.masked_pretraining import MaskedPretraining
from harness.tricks.stack import conflicts

SEED, SAMPLE, CHUNKS = 1, 150, 10
SLOW_CHUNKS = 50
PLACE = Place(data_root=Path("unused-by-digits"), check=True)

STAGES = tempfile.TemporaryDirectory()
PLACE = Place(data_root=Path("unused-by-digits"), stages_dir=Path(STAGES.name), check=True)

ALONE = {
    "masked_image_modelling": "it learns no classes, so what changes how they are learned does nothing",
    "channels_last": "it computes the same in another order, for which the network must be another one",
    "torch_compile": "it computes the same, here to the bit",
}
"""Tricks that nobody combines, and why."""

APART, SAME = 1e-3, 1e-5
"""Differences of log probabilities: above the first evaluation does more than the network, below the second nothing."""

REDRAWN = "the trick draws these weights from a stream of its own, which the placebo leaves, so no other draw is left"
ONE_NETWORK = "the average of so short a training is one network, without batch norm whose statistics are taken anew"
EXCEPTIONS: dict[str, str] = {
    "batch_norm+stochastic_weight_averaging": ONE_NETWORK,
    "concat_pool+placebo": REDRAWN,
    "group_norm+stochastic_weight_averaging": ONE_NETWORK,
    "identity_init+placebo": REDRAWN,
    "init_sweep+placebo": REDRAWN,
    "kaiming_init+placebo": REDRAWN,
    "placebo+tanh_hidden": REDRAWN,
}
"""Pairs in which an effect is lost for a reason that is right."""

UNFIT = {
    "grayscale": "digits has 1 channel(s), and so no colour to take out",
    "small_image_stem": "the stem keeps the size of the image already",
}
"""Tricks that refuse this workload, and why."""


@dataclass(frozen=True)
class Observed:
    """What a tiny training did: its test predictions, initial weights, the sum of each loss term, and its evaluation.

    `gap` is the largest difference of log probabilities between the arm's predictions and the trained network's own.
    """

    status: str
    reason: str
    predictions: str = ""
    start: dict[str, int] = field(default_factory=dict)
    terms: dict[str, float] = field(default_factory=dict)
    gap: float = 0.0


def observe(spec) -> Observed:
    sessions, start = [], {}

    def remembered(*args):
        sessions.append(set_up(*args))
        for name, weights in sessions[-1].run.model.named_parameters():
            start[name] = hash(weights.detach().numpy().tobytes())
        return sessions[-1]

    executing.train_stages(spec, PLACE)
    with mock.patch.object(executing, "set_up", remembered):
        result = executing.execute(spec, "pairs", PLACE)
    if result.predictions is None:
        return Observed(result.row["status"], result.row["reason"])
    terms = {}
    for point in result.points:
        if point.split == "train" and point.metric.startswith("loss/"):
            terms[point.metric] = terms.get(point.metric, 0.0) + abs(point.value)
    (session,) = sessions
    with session.amp.autocast():
        held = session.splits.test
        own = predict_all(session.run.model.eval(), held, session.run.device, session.run.recipe.channels_last)
    gap = float((own.logits.log_softmax(-1) - result.predictions.logits.log_softmax(-1)).abs().max())
    return Observed("ok", "", result.row["test_digest"], start, terms, gap)


def lost(names, alone, together, baseline) -> list[str]:
    """What the tricks did alone and do not do together, in words."""
    faults = []
    if all(one.predictions != baseline.predictions for one in alone):
        faults += [
            f"equals {name} alone to the bit" for name, one in zip(names, alone, strict=True)
            if together.predictions == one.predictions
        ]  # fmt: skip
    set_by_both = [
        name for name, weights in baseline.start.items()
        if all(one.start.get(name, weights) != weights for one in alone) and name in together.start
    ]  # fmt: skip
    for name, one in zip(names, alone, strict=True):
        same = [weights for weights in set_by_both if together.start[weights] == one.start[weights]]
        faults += [f"starts from the weights of {name} alone: {same[0]}"] if same else []
        faults += [f"{term} is zero" for term, size in one.terms.items() if size and not together.terms.get(term)]
        if one.gap > APART and together.gap < SAME:
            faults.append(f"the predictions are the network's own, as {name}'s are not")
    return faults


@lru_cache(maxsize=1)
def compatible_pairs(small):
    """All pairs of built-in tricks without a conflict, in name order."""
    tricks = {name: small(name) for name in sorted(registry.builtin()) if name not in ALONE}
    return [(a, b) for a, b in itertools.combinations(tricks, 2) if not conflicts([tricks[a], tricks[b]])]


@cache
def observed(small_spec, *names):
    return observe(small_spec(*names))


def trouble(pairs, small_spec):
    """The pairs that neither train nor are refused with a reason, and those in which an effect is lost; and why."""
    found = {}
    baseline = observed(small_spec)
    for pair in pairs:
        together = observe(small_spec(*pair))
        if together.status == "ok":
            faults = lost(pair, [observed(small_spec, name) for name in pair], together, baseline)
        else:
            faults = [] if together.status == "skipped" and together.reason else [together.status, together.reason]
        if faults:
            found["+".join(pair)] = faults
    return found


def unexpected(pairs, small_spec):
    return {pair: faults for pair, faults in trouble(pairs, small_spec).items() if pair not in EXCEPTIONS}


def sample_of(pairs):
    """A fixed part of the pairs, at random; by hash, so that a new trick replaces few of them."""
    return sorted(pairs, key=lambda pair: hashlib.sha256(f"{SEED}:{'+'.join(pair)}".encode()).digest())[:SAMPLE]


def test_most_pairs_are_compatible_and_the_known_clash_is_not(small):
    pairs = compatible_pairs(small)

    assert len(pairs) > 2000
    assert ("cutmix", "mixup") not in pairs
    assert ("label_smoothing", "mixup") in pairs


def test_every_trick_acts_alone_on_this_workload(small_spec):
    """Otherwise its pairs would prove nothing. Those that must not act are the control and ways of computing."""
    baseline = observed(small_spec)
    alone = {name: observed(small_spec, name) for name in registry.builtin()}

    assert {name: one.reason for name, one in alone.items() if one.status != "ok"} == UNFIT
    inert = {name for name, one in alone.items() if one.predictions == baseline.predictions} - set(UNFIT)
    assert inert == {"erm_baseline", "gradient_checkpointing", "torch_compile"}
    assert all(size for one in alone.values() for size in one.terms.values())


def test_exceptions_are_few_and_are_pairs(small):
    pairs = {"+".join(pair) for pair in compatible_pairs(small)}

    assert len(EXCEPTIONS) <= 30
    assert set(EXCEPTIONS) <= pairs
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_fixed_sample_of_pairs_trains_and_loses_no_effect(chunk, small, small_spec):
    assert unexpected(sample_of(compatible_pairs(small))[chunk::CHUNKS], small_spec) == {}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(SLOW_CHUNKS))
def test_all_pairs_train_and_lose_no_effect(chunk, small, small_spec):
    assert unexpected(compatible_pairs(small)[chunk::SLOW_CHUNKS], small_spec) == {}


def test_finds_a_trick_that_undoes_what_another_has_learned(small_spec, monkeypatch):
    """Initial weights drawn after pretraining: by name, as if `init` hooks had no stages."""
    pairs = [("masked_pretraining", "tanh_hidden"), ("masked_pretraining", "zero_gamma")]
    assert trouble(pairs, small_spec) == {}
    monkeypatch.setattr(MaskedPretraining.init, "stage", InitStage.DRAW)

    assert trouble(pairs, small_spec) == {
        "masked_pretraining+tanh_hidden": ["starts from the weights of tanh_hidden alone: net.stem.0.weight"],
        "masked_pretraining+zero_gamma": ["starts from the weights of zero_gamma alone: net.stage1.0.norm2.weight"],
    }


@pytest.mark.parametrize("other", ["repvgg_reparam", "inference_fusion"])
def test_finds_a_prediction_that_is_lost_when_the_trained_network_is_rewritten(other, small_spec, monkeypatch):
    """The live network rewritten, whatever networks are evaluated."""
    pair = (other, "snapshot_ensemble")
    assert trouble([pair], small_spec) == {}
    monkeypatch.setattr(Session, "finalized", lambda s, _: (s.stack.fold("finalize", s.run.model, s.run),))

    found = trouble([pair], small_spec)
    assert found == {"+".join(pair): ["the predictions are the network's own, as snapshot_ensemble's are not"]}


def test_finds_a_term_that_is_zero_together_alone(small_spec, monkeypatch):
    """Parts of a batch without two images of a class, where no rule keeps the triplet loss from them."""
    pair = ("gradient_accumulation", "triplet_aux")
    monkeypatch.setattr("harness.tricks.stack.conflicts", lambda tricks: [])
    monkeypatch.setattr("harness.tricks.losses.triplet_aux.TripletAux.loss_terms", vanishing)

    assert trouble([pair], small_spec) == {"+".join(pair): ["loss/triplet_aux.triplet is zero"]}


def vanishing(self, batch, logits, run):
    """The triplet loss with margin zero of what parts hold: nothing where the batch was split."""
    run.state[self.name].take()
    return {"triplet": logits.sum() * 0 if len(batch.x) < run.recipe.batch_size else logits.square().mean()}
