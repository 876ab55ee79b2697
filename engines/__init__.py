"""Makes the released model: networks, data, training, evaluation and export. Needs torch; the server does not."""
