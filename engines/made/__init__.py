"""Made faces: people without end with the mouths, lids and turns that recordings lack. Nothing of it runs live."""
