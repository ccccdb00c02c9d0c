"""Where each photograph shows the object."""
