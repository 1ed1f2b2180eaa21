"""Convolutional networks and cells on images (paper sections 2.3 and 2.4)."""
