"""Data for training and measuring: packs of tracked faces, training windows, composites, the face model."""
