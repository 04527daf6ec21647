"""How good each variant of a model is, how fast, and the page that says so."""
