"""Data sets: labels, manifests, splits, prepared folders."""
