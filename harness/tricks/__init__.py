"""Tricks: one file each, in a folder per family. `contract` says what a trick is."""
