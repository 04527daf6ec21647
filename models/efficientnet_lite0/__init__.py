"""What a photo shows, of ImageNet's 1,000 classes."""
