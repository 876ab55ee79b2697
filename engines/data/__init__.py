"""Faces to train and measure with: tracking, composites, pairs."""
