"""Do cameras and masks agree? A look before training."""
