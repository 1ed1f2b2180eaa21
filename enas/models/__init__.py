"""What architectures compute: shared models, and models of one architecture."""
