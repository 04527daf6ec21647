"""What is deployed around the code."""
