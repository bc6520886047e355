"""A run in little: set-up, a training step or a few, one evaluation batch. What cannot train shows it there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from torch import Tensor

from harness.data.splits import first
from harness.errors import UserError
from harness.experiment import RunSpec
from harness.models.own import check_logits
from harness.training.evaluate import batch_size
from harness.training.execute import OUT_OF_MEMORY, isolate, outcome_of
from harness.training.layout import AtRisk
from harness.training.loop import Batches, Clock, train
from harness.training.place import Place
from harness.training.seen import MEMORY, Seen
from harness.training.session import Session, set_up
from harness.tricks.contract import Batch, Run


@dataclass
class _Few:
    """The first batches of a loader, and the seconds that was done with each."""

    loader: Batches
    steps: int
    device: torch.device
    seconds: list[float] = field(default_factory=list)

    def epoch(self, positions: Tensor | None = None) -> Iterator[Batch]:
        for batch in islice(self.loader.epoch(positions), self.steps):
            started = time.perf_counter()
            yield batch
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.seconds.append(time.perf_counter() - started)


def rehearse(spec: RunSpec, place: Place, steps: int) -> Iterator[str | Seen]:
    """Rehearse a run; yields what is about to be done in words, and at the end what was seen.

    Stages that the run needs come untrained, and set-up phases that train do one step (`Run.rehearsal`). What a
    trick refuses is no problem, since such runs are stored as skipped.
    """
    isolate(spec.seed, place.device)
    place = replace(place, rehearsal=True, stages_dir=None, checkpoint_dir=None)
    try:
        yield "set-up"
        session = set_up(spec, place)
        yield "a forward pass"
        _show_image(session.run)
        yield "a training step"
        few = _Few(session.loader, min(steps, session.run.steps_per_epoch), session.run.device)
        next(train(
            session.run, session.stack, few, session.step, session.lr_factors, dict, Clock(), place.check
        ))  # fmt: skip
        yield "an evaluation batch"
        _evaluate(session)
        yield Seen(run_seconds=few.seconds[-1] * session.run.total_steps)
    except AtRisk as error:
        yield Seen(at_risk=str(error))
    except UserError as error:
        yield Seen(str(error), own=True)
    except Exception as error:
        status, reason = outcome_of(error, spec)
        if "more than 1 value per channel" in str(error):
            yield Seen(
                f"recipe.batch_size = {spec.recipe.batch_size}: batch normalisation cannot train on one value per "
                f"channel ({str(error).splitlines()[0]}); use a larger batch_size or data.image_size",
                own=True,
            )
        else:
            advice = f"; {MEMORY}" if reason.startswith(OUT_OF_MEMORY) else ""
            refused = reason if status == "skipped" else ""
            yield Seen(reason + advice if status == "failed" else "", skipped=refused)


def _show_image(run: Run) -> None:
    """See that the network takes images of this size.

    Raises:
        UserError: it does not, or gives something else than the logits of each image.
    """
    side, name = run.data.size, run.spec.model.name
    try:
        with torch.no_grad(), run.autocast():
            logits: object = run.model.eval()(torch.zeros(1, run.data.channels, side, side, device=run.device))
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # networks fail in ways of their own on images that they were not made for
        if run.spec.arm.tricks and not isinstance(error, RuntimeError | ValueError | AssertionError):
            raise  # from surgery, whose file and line are said
        why = (str(error).splitlines() or [type(error).__name__])[0]
        fixed = getattr(getattr(run.model.net, "patch_embed", None), "img_size", None) is not None
        what = f"set model.args = {{img_size={side}}}" if fixed else "choose another model"
        if getattr(run.model.net, "image_size", None) is not None:  # torchvision's vision transformers
            what = f"set model.args = {{image_size={side}}}"
        raise UserError(
            f"model.name = '{name}' cannot take images of {side} x {side} pixels ({why}); {what}, or "
            "images of another size (data.image_size)"
        ) from None
    check_logits(logits, (1, len(run.data.classes)), f"model.name = '{name}'")


def _evaluate(session: Session) -> None:
    """What follows training, on one batch of validation images; the test split is not read."""
    held = first(session.splits.val, batch_size(session.splits.val, session.run.device))
    session.predict(session.finalized(session.evaluated()), held)
