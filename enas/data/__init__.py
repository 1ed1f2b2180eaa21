"""Datasets: downloads, those that are built in, the user's own, and the identity of data."""
