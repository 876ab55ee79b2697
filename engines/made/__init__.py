"""Made faces: synthetic people with mouths, lids and head turns that recordings lack. Only for training."""
