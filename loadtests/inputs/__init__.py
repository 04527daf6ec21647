"""What load tests ask: each model's own examples and endless variations of them, with the right answers."""
