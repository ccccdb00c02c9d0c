"""Cameras from photographs or a video alone."""
