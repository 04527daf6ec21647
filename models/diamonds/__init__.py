"""What a diamond costs, learnt with differential privacy."""
