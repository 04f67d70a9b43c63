"""What so many requests a second take: measured costs, a simulation that is checked against them, and a plan."""
