"""Which endpoint of a pool takes a request: load, choice, health and budgets, each a pure part of its own."""
