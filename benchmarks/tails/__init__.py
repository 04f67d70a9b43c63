"""The slowest requests at half of capacity: beside a control with the same batch times, and what ran beside them."""
