"""What is normal, and whether traffic still is."""
