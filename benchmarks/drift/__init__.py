"""How well drift is found, beside other methods."""
