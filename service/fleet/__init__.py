"""Statistics of several replicas as those of one service: what they exchange, how, and what comes of it."""
