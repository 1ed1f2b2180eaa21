"""Runs: their folders, what they write down, and what starts and resumes them."""
