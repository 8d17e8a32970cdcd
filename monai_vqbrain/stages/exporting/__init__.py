"""Trained networks outside of their run: weights, metadata, model card."""
