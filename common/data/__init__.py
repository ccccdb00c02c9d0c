"""Collections, scenes and images on disk, and the data the framework makes itself."""
