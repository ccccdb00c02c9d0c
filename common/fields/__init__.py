"""Building blocks of neural fields."""
