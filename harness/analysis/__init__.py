"""From stored rows to effects, verdicts and their evidence. Imports no torch."""
