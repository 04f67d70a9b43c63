"""Several replicas as one service: whether their counts are right whatever breaks, and what that costs."""
