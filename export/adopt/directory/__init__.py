"""A directory of Hugging Face or sentence-transformers becomes a packed graph."""
