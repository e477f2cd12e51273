"""Polls in the triggerer, and does nothing else."""
