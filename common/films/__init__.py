"""Films and series of pictures: what they show, along which path, and their files."""
