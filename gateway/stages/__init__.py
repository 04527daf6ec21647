"""What can wrap an Infer: one file, one class each; none imports another."""
