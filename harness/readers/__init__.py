"""Readers of scores that other programs wrote: a file each, and entry points of the group `harness.readers`."""
