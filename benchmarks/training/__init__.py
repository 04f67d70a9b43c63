"""How well small files and pretrained encoders train."""
