"""Open Inference Protocol v2 over REST, as Triton's and KServe's clients speak it."""
