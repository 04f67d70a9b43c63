"""From a training run to a verified artifact."""
