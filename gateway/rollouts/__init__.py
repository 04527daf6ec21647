"""A change of what answers, on trial: canaries of a model, and shadows that are asked and never heard."""
