"""Training by gradients with Lightning."""
