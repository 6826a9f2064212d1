"""Data sets: labels, manifests, splits, prepared folders."""

SPLITS = ("base", "dar", "val", "calib", "test")
