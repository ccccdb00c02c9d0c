"""From a field to a triangle mesh, and from a mesh to scores."""
