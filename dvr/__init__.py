"""Differentiable Volumetric Rendering (Niemeyer et al., CVPR 2020)."""
