"""Experiments whose runs are commands: any training program, started as its user would, judged like the loop's runs."""
