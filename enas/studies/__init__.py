"""Studies: the worth of the parts of an architecture, and searches compared with random choice."""
