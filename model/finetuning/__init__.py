"""A pretrained encoder goes on learning: a new head, then all of it, on the user's own texts."""
