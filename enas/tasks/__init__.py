"""Problems, as the training loop sees them."""
