"""Batching: which requests are joined, in what order, and how many at once. Pure; the stage does the rest."""
