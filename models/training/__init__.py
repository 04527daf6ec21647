"""What the training of several models shares: the data sets."""
