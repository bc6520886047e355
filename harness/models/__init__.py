"""Baseline networks for small images and an adapter to timm, all behind one `Classifier`."""
