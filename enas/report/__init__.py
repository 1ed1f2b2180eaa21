"""A page about one run or several, and a GIF of a search."""
