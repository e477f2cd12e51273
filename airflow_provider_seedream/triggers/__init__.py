"""What polls in the triggerer, and nothing else."""
