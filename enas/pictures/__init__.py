"""Drawings of architectures, plots of ablations, GIFs of searches."""
