"""The derived architecture on its own: an `nn.Module` that needs torch alone, its weights and a picture."""
