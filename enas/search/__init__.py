"""What every search space shares: sampling, training in turn, deriving (paper section 2.2)."""
