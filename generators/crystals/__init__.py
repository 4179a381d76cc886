"""Crystals: symmetric, reversible descriptions and a latent space of them."""
