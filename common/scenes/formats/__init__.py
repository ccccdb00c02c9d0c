"""Cameras on disk: one reader a format, and the writers."""
