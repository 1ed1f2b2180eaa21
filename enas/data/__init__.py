"""Texts and images: reading, downloading, cutting into minibatches."""
