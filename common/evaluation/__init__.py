"""Metrics, tables and the controls beside a claim."""
