"""Training: one readable loop, evaluation, and what turns a RunSpec into rows."""
