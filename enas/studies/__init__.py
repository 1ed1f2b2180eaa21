"""What the parts of an architecture are worth: its variants, what scores them, and the files that say so."""
