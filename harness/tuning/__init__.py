"""Tuned comparisons: Optuna searches with equal budgets for the baseline and every arm, judged on fresh seeds."""
