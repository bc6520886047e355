"""Studies: which arms, which runs, and getting them done."""
