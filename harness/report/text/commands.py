"""Commands that train a part of what a declaration asked for: one arm of a study, or a search's winning values."""

from __future__ import annotations

import json

from harness.store.asked import asked_of, command_of, given
from harness.store.schema import Manifest, SearchArm, SearchRecord, Trial
from harness.values import seeds_word

KEPT = ("experiment", "margin", "threads", "plugin", "data-root", "device", "cuda-graphs", "no-probe")
"""Options that the command of one arm shares with that of the study."""

DROPPED = ("design", "seeds", "max-arms", "max-seeds", "budget", "name")
"""Options that only say how many arms and seeds there are, and what the study is called."""

SECTIONS = ("experiment", "data", "model", "recipe", "study", "command", "metrics", "curve", "cost")
"""Sections that `--set` may name besides tricks; their values hold for every arm."""

SEARCHED = ("experiment", "set", "threads", "plugin", "data-root", "device", "cuda-graphs")
"""What a search has in common with `harness ablate` and changes numbers."""


def arm_commands(manifest: Manifest) -> dict[str, str]:
    """By label, what trains the same runs of one arm and the baseline, and no others.

    Only where that is certain: not for the baseline and skipped arms, nor for sweeps, whose arms have values of
    their own, conditions and looks, which change the experiment or the level, seeds that are no unbroken range, and
    requests with an option that is not known here.
    """
    asked = asked_of(manifest)
    options = given(asked)
    known = asked.get("verb") == "ablate" and options.keys() <= {*KEPT, *DROPPED, "set"}
    seeds = seeds_word(manifest.seeds)
    if not known or manifest.design == "sweep" or seeds is None:
        return {}
    # The experiment file may ask for a design that one arm does not fit.
    fits = manifest.design == "one_at_a_time" and "design" not in options
    tail = f"{'' if fits else ' --design one_at_a_time'} --seeds {seeds}"
    found = {}
    for arm in manifest.arms:
        if arm.tricks and arm.skipped is None:
            own = {name: options[name] for name in KEPT if name in options}
            own["set"] = [s for s in options.get("set", ()) if s.partition(".")[0] in {*SECTIONS, *arm.tricks}]
            request = {"verb": "ablate", "tricks": ["+".join(sorted(arm.tricks))], "options": own}
            found[arm.label] = command_of(request) + tail
    return found


def _option(name: str) -> str:
    """What `--set` calls a searched value: flags are a table of the command."""
    return f"command.{name}" if name.startswith("flags.") else name


def winner_command(record: SearchRecord, arm: SearchArm, winner: Trial) -> str:
    """What trains an arm with its winning values, exactly; for the baseline, the other arms on its tuned recipe."""
    asked = given(asked_of(record))
    options = {"experiment": record.experiment} | {name: asked[name] for name in SEARCHED if name in asked}
    # Text goes bare; all else as JSON, which writes numbers and booleans as TOML does.
    won = [f"{_option(name)}={v if isinstance(v, str) else json.dumps(v)}" for name, v in winner.params.items()]
    typed = [s for s in options.get("set", ()) if s.partition("=")[0] not in winner.params]
    others = [a.label for a in record.arms if a.tricks] or ["erm_baseline"]
    tricks = [arm.label] if arm.tricks else others
    return command_of({"verb": "ablate", "tricks": tricks, "options": options | {"set": typed + won}})
