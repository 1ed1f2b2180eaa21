"""The core of every search: sampling architectures, training ω and θ in turn, deriving (paper section 2.2)."""
