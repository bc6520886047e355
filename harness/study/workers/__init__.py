"""Where runs execute: a local pool of processes."""
