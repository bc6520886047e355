"""Verdicts in words: a label for a table's cell, and a sentence that stands alone: effect, interval, n, scope."""

from __future__ import annotations

import math

from harness.analysis.power import N_MAX
from harness.analysis.types import GAINS, LOSSES, Effect, Verdict, VerdictKind
from harness.analysis.verdicts import MIN_SEEDS, Evidence, Setting, kind_of, negligible

Words = tuple[str, str]
"""Label and sentence."""


def judge(effect: Effect, evidence: Evidence, setting: Setting) -> Verdict:
    """The verdict on one arm in words; the arguments are those of `kind_of`."""
    kind = kind_of(effect, evidence, setting)
    if kind == "skipped":
        return Verdict(kind, kind, f"{effect.arm} was skipped: {evidence.skipped}.")
    if kind == "failed":
        reasons = f": {'; '.join(effect.reasons)}" if effect.reasons else ""
        return Verdict(kind, kind, f"{effect.arm} finished no run on {setting.scope}{reasons}.")
    if kind in GAINS or kind in LOSSES:
        label, sentence = _claim(kind, effect, evidence, setting)
    else:
        words = {
            "no verdict": _no_verdict,
            "inactive": _inactive,
            "suggestive": _suggestion,
            "equivalent": _equivalence,
            "undecided": _undecided,
        }
        label, sentence = words[kind](effect, evidence, setting)
    prefix = evidence.instability(effect)
    if prefix:
        label, sentence = f"{prefix}: {label}", f"{prefix}: {sentence}{_divergence(effect, setting)}"
    return Verdict(kind, label, sentence, unstable=bool(prefix))


def _no_verdict(effect: Effect, evidence: Evidence, setting: Setting) -> Words:
    n, found = effect.n_judged, _found(effect, evidence, setting)
    start = f"no verdict on {effect.arm} on {setting.scope}"
    if n >= MIN_SEEDS and not evidence.missing:
        return (
            f"no verdict (n={n}; every seed gave the same number)",
            f"{start}: {found}, but each of {_seeds(n)} gave the same {setting.metric}, so the metric cannot tell or "
            "the seed is not used.",
        )
    missing = ", ".join(f"{k} {why}" for why, k in evidence.missing.items())
    lost = f"{sum(evidence.missing.values())} of {effect.n_planned} seeds missing"
    label = f"need {MIN_SEEDS}" if n < MIN_SEEDS else lost
    detail = f"{MIN_SEEDS} needed" + (f"; {lost}: {missing}" if missing else "")
    so_far = f"; so far {found}" if n else ""
    return f"no verdict (n={n}; {label})", f"{start} from {_seeds(n)} ({detail}){so_far}."


def _inactive(effect: Effect, evidence: Evidence, setting: Setting) -> Words:
    found, seeds = _found(effect, evidence, setting), _seeds(effect.n)
    changed = f"it changed no {setting.compared} in any of {seeds}"
    sentence = f"{effect.arm} is inactive on {setting.scope}: {changed} ({found})."
    return "inactive - changed nothing", sentence


def _claim(kind: VerdictKind, effect: Effect, evidence: Evidence, setting: Setting) -> Words:
    n, better = effect.n_judged, kind in GAINS
    agreeing = effect.wins if better else n - effect.wins - effect.ties
    # The pairs that finished may point the other way, so their mean is no headline of an arm that diverged.
    size = "" if any(effect.lost) else _size(effect, evidence, setting)
    label, small, p = f"{kind}{size}, {agreeing}/{n} seeds", "", _tested(effect, setting)
    if kind.endswith("slightly"):
        label = f"{kind}, negligible (within {_margin(setting, _unit(setting))})"
        small = f", negligibly (within {_margin(setting)})"
    if kind.startswith("likely"):
        label = f"{label}, q {_p(effect.q)}"
        p = f"q {_p(effect.q)} by Benjamini and Hochberg's method for {setting.family} arms, {p}"
    count = f"{'better' if better else 'worse'} in {agreeing} of {_seeds(n)}"
    found = _found(effect, evidence, setting)
    parts = (count, p, found) if any(effect.lost) else (found, count, p)
    return label, f"{effect.arm} {kind} on {setting.scope}{small}: {', '.join(parts)}."


def _suggestion(effect: Effect, evidence: Evidence, setting: Setting) -> Words:
    if any(effect.lost):
        return _mixed(effect, evidence, setting)
    label, small = f"suggestive{_size(effect, evidence, setting)}", ""
    if negligible(effect.p_tost_holm, setting.alpha):
        label, small = f"{label}, negligible (within {_margin(setting, _unit(setting))})", " and lies within the margin"
    limit = _limit(effect, setting)
    more = (
        f"about {effect.more_for_effect} more seeds would show an effect of that size" if effect.more_for_effect else ""
    )
    corrected = f"{'Holm ' if setting.family > 1 else ''}p {_p(effect.p_holm)}"
    short = filter(None, (corrected, limit and "too few seeds for its test", more))
    why = "; ".join(filter(None, (f"but {_tested(effect, setting)}", limit, more)))
    return (
        f"{label} ({'; '.join(short)})",
        f"{effect.arm} is suggestive on {setting.scope}: {_over(effect, evidence, setting)}, an interval of this arm "
        f"alone that excludes zero{small}, {why}.",
    )


def _mixed(effect: Effect, evidence: Evidence, setting: Setting) -> Words:
    """Of an arm that diverged on some seeds and has no verdict, though its other seeds or its raw test are clear."""
    better = (evidence.direction > 0) == setting.higher_is_better
    way = f"all {effect.n_judged} point to {'better' if better else 'worse'}" if evidence.direction else "all are even"
    found, p = _found(effect, evidence, setting), _tested(effect, setting)
    limit = _limit(effect, setting)
    what = "; ".join(filter(None, (f"{way}, but {p}", limit)))
    size = (
        f"{_size(effect, evidence, setting)} in the {effect.n} of {effect.n_judged} that finished" if effect.n else ""
    )
    return (
        f"suggestive{size} ({way}, p {_p(effect.p_holm)})",
        f"{effect.arm} is suggestive on {setting.scope}: {found}; {what}.",
    )


def _equivalence(effect: Effect, evidence: Evidence, setting: Setting) -> Words:
    return (
        f"equivalent within {_margin(setting, _unit(setting))}",
        f"{effect.arm} is equivalent to the baseline within {_margin(setting)} on {setting.scope}: "
        f"{_over(effect, evidence, setting)}, equivalence p {_p(effect.p_tost_holm)}{_corrected(setting)}.",
    )


def _undecided(effect: Effect, evidence: Evidence, setting: Setting) -> Words:
    found = f"on {setting.scope}: {_over(effect, evidence, setting)}, {_tested(effect, setting)}"
    limit = _limit(effect, setting)
    if limit:
        label = f"undecided (too few seeds for its test; p {_p(effect.p_holm)})"
        return label, f"{effect.arm} is undecided {found}; {limit}."
    if not math.isfinite(effect.low):
        label = f"undecided (too few pairs finished for an interval; p {_p(effect.p_holm)})"
        return label, f"{effect.arm} is undecided {found}; too few pairs finished for an interval."
    could = f"could be {_signed(effect.low, setting)} to {_signed(effect.high, setting)}"
    mde, margin = f"{effect.mde:.2g} {_unit(setting)}".rstrip(), _margin(setting, _unit(setting))
    more = ""
    if effect.more_seeds is not None:
        more = f"about {effect.more_seeds} more seeds for {margin}"
    elif effect.mde > setting.margin:
        more = f"more than {N_MAX} seeds for {margin}"
    power = f"with 80 % power {_seeds(effect.n)} find effects from {mde}" + (f"; it takes {more}" if more else "")
    label = f"no detectable difference ({'; '.join(filter(None, (could, f'MDE {mde}', more)))})"
    return label, f"{effect.arm} shows no detectable difference {found}; {power}."


def _tested(effect: Effect, setting: Setting) -> str:
    """The corrected p of the test that decides, such as "signed-rank p = 0.02 after Holm's correction for 3 arms"."""
    return f"{'' if effect.test == 't' else f'{effect.test} '}p {_p(effect.p_holm)}{_corrected(setting)}"


def _corrected(setting: Setting) -> str:
    return f" after Holm's correction for {setting.family} arms" if setting.family > 1 else ""


def _limit(effect: Effect, setting: Setting) -> str:
    """Why the test that decides could not have rejected, whatever these seeds had shown; empty where it could."""
    if effect.p_least < setting.level:
        return ""
    if effect.p_least == 1:
        return "no pair differs, so there is nothing to test"
    needed = math.floor(1 - math.log2(setting.level)) + 1  # the least p of n seeds is 2 / 2**n
    asked = f"the level is {setting.alpha:g}, so it decides nothing here"
    if setting.family > 1:
        asked = f"the first of {setting.family} arms must be below {setting.level:.2g}, so it hardly decides here"
    return (
        f"the {effect.test} test of {_seeds(effect.n_judged)} cannot go below p = {effect.p_least:.2g} and {asked}; "
        f"from {needed} seeds on it can"
    )


def _divergence(effect: Effect, setting: Setting) -> str:
    """A sentence on how often arm and baseline diverged, where one did."""
    arm, base, both = effect.lost
    if not arm + base + both:
        return ""
    p = f"McNemar's exact p {_p(effect.p_lost)}{_corrected(setting)}"
    counts = f"in {arm + both} of {_seeds(effect.n_judged)}, the baseline in {base + both}"
    if effect.p_lost < setting.alpha:
        return f" It diverges {'more' if arm > base else 'less'} often than the baseline: {counts} ({p})."
    return f" It diverged {counts} ({p})."


def _size(effect: Effect, evidence: Evidence, setting: Setting) -> str:
    """The effect in a label; the interval is that of the mean, so it has no place beside a typical difference."""
    if not effect.n:
        return ""
    if evidence.instability(effect):
        return f" {_signed(evidence.typical, setting)} {_unit(setting)}".rstrip()
    return f" {_signed(effect.mean, setting)} {_unit(setting)}".rstrip() + _interval(effect, setting)


def _found(effect: Effect, evidence: Evidence, setting: Setting) -> str:
    """The effect with its interval, such as "+1.35 points [0.33, 2.37]"."""
    name = setting.unit if setting.metric == "test_accuracy" else f"{setting.unit} of {setting.metric}"
    name = name.removeprefix(" of ")
    if not effect.n:
        return "no pair of runs finished"
    mean = f"{_signed(effect.mean, setting)} {name}{_interval(effect, setting)}"
    if effect.n > 1 and effect.sd == 0 and effect.mean:
        mean += " in every seed"
    if effect.n < effect.n_judged:
        mean += f" in the {effect.n} of {effect.n_judged} pairs that finished"
    if effect.n > 1 and evidence.instability(effect):
        return f"typically {_signed(evidence.typical, setting)} (mean {mean})"
    return mean


def _over(effect: Effect, evidence: Evidence, setting: Setting) -> str:
    """The same with its n."""
    found = _found(effect, evidence, setting)
    return f"{found} over {_seeds(effect.n_judged)}" if effect.n == effect.n_judged else found


def _margin(setting: Setting, unit: str | None = None) -> str:
    return f"±{setting.margin:g} {setting.unit if unit is None else unit}".rstrip()


def _unit(setting: Setting) -> str:
    """The unit in a label."""
    return "pt" if setting.unit == "points" else setting.unit


def _signed(value: float, setting: Setting) -> str:
    return f"{value:+z.2f}" if setting.unit == "points" else f"{value:+z.3g}"


def _interval(effect: Effect, setting: Setting) -> str:
    """The interval after a space, if there is one."""
    spec = "z.2f" if setting.unit == "points" else "z.3g"
    return f" [{effect.low:{spec}}, {effect.high:{spec}}]" if math.isfinite(effect.low) else ""


def _p(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"


def _seeds(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"
