"""Whether numbers are drawn from where they should be: inside the ends, up to the ends, and evenly in between."""

import numpy as np
from scipy.special import betainc

CRITICAL = 1.95
"""Times 1 / sqrt(n), the Kolmogorov-Smirnov distance that one sample in a thousand exceeds; seeds are fixed."""


def distance(samples, cdf):
    """The largest distance between the samples' distribution and a continuous one."""
    x = np.sort(np.asarray(samples, dtype=float).ravel())
    n = len(x)
    expected = cdf(x)
    steps = np.arange(n + 1) / n
    return max((steps[1:] - expected).max(), (expected - steps[:-1]).max()), n


def assert_drawn(samples, cdf):
    """The samples have that distribution."""
    far, n = distance(samples, cdf)
    assert far < CRITICAL / n**0.5, f"{far:.3f} from the distribution that was asked for (n = {n})"


def assert_uniform(samples, low, high):
    """The samples fill [low, high] evenly and never leave it, but for rounding."""
    x = np.asarray(samples, dtype=float)
    slack = 1e-6 * (high - low)
    assert x.min() >= low - slack
    assert x.max() <= high + slack
    assert_drawn(x, lambda v: np.clip((v - low) / (high - low), 0, 1))


def assert_beta(samples, alpha):
    """The samples have the distribution Beta(alpha, alpha)."""
    assert_drawn(samples, lambda v: betainc(alpha, alpha, v))


def assert_share(hits, share):
    """The share of hits is that, within 3.3 standard errors; none or all is exact."""
    hits = np.asarray(hits, dtype=float).ravel()
    assert abs(hits.mean() - share) <= 3.3 * (share * (1 - share) / len(hits)) ** 0.5


def assert_independent(*draws):
    """No two of these draws, a number for each image, go together: correlations are within 4 standard errors."""
    together = np.corrcoef(np.stack([np.asarray(d, dtype=float) for d in draws]))
    off = np.abs(together - np.eye(len(draws))).max()
    assert off < 4 / len(np.asarray(draws[0])) ** 0.5, f"two draws have a correlation of {off:.2f}"


def recorded(monkeypatch, module, name):
    """The arguments of every call of a module's function, which still does its work; a list that grows."""
    calls, real = [], getattr(module, name)

    def spy(*args, **kwargs):
        calls.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, spy)
    return calls
