"""mobilenet_v2: which of Fashion-MNIST's ten kinds of clothing a picture shows."""
