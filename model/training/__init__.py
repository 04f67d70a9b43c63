"""From a data set to a run: recipe, batches, training, checkpoints, report."""
