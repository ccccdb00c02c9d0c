"""Measuring the core beside its plain oracles."""
