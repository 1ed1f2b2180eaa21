"""Drawings of architectures, and plots."""
