"""A search over parts of a module of one's own."""
