"""Recurrent cells on text (paper section 2.1)."""
