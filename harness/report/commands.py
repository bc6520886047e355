"""The command that trains one arm of a study beside its baseline, where the study's own command tells it exactly."""

from __future__ import annotations

import shlex

from harness.store.schema import Manifest

KEPT = ("--experiment", "--margin", "--threads", "--plugin", "--data-root", "--device")
"""Options with a value that the command of one arm shares with that of the study."""

DROPPED = ("--design", "--seeds", "--max-arms", "--max-seeds", "--budget", "--name")
"""Options with a value that only say how many arms and seeds there are, and what the study is called."""

GRAPHS = "--cuda-graphs"
"""The one option without a value that the command of one arm shares with that of the study."""

SECTIONS = ("experiment", "data", "model", "recipe", "study")
"""Sections that `--set` may name besides tricks; their values hold for every arm."""


def arm_commands(manifest: Manifest) -> dict[str, str]:
    """By label, what trains the same runs of one arm and the baseline, and no others.

    Only where that is certain: not for the baseline and skipped arms, nor for sweeps, whose arms have values of
    their own, conditions and looks, which change the experiment or the level, seeds other than 0 to n - 1, and
    commands with an option that is not known here.
    """
    options = _options(manifest.command)
    if options is None or manifest.design == "sweep" or manifest.seeds != tuple(range(len(manifest.seeds))):
        return {}
    # The experiment file may ask for a design that one arm does not fit.
    fits = manifest.design == "one_at_a_time" and "--design" not in dict(options)
    tail = [*([] if fits else ["--design", "one_at_a_time"]), "--seeds", str(len(manifest.seeds))]
    found = {}
    for arm in manifest.arms:
        if arm.tricks and arm.skipped is None:
            words = ["harness", "ablate", "+".join(sorted(arm.tricks)), *_kept(options, set(arm.tricks)), *tail]
            found[arm.label] = shlex.join(words)
    return found


def _options(command: str) -> list[tuple[str, str]] | None:
    """The options of a study's command with their values, or None where one of them is not known."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    graphs = [(GRAPHS, "")] if GRAPHS in words else []
    words = [word for word in words if word != GRAPHS]
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    options = list(zip(words[first::2], words[first + 1 :: 2], strict=False))
    known = all(option in (*KEPT, *DROPPED, "--set") for option, _ in options)
    return options + graphs if words[:2] == ["harness", "ablate"] and known and len(words[first:]) % 2 == 0 else None


def _kept(options: list[tuple[str, str]], tricks: set[str]) -> list[str]:
    """The words of the options that also hold for an arm of these tricks."""
    sections = {*SECTIONS, *tricks}
    kept = [o for o in options if o[0] in (*KEPT, GRAPHS) or (o[0] == "--set" and o[1].partition(".")[0] in sections)]
    return [word for option in kept for word in option if word]
