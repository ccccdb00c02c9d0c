"""From rays to surface points with gradients, and to images."""
