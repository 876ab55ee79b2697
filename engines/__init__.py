"""What builds the engine: networks, data, training, evaluation and export. Needs torch; the server does not."""
