"""Motion in and out of other rigs: the VMC protocol, phones' face trackers, and motion files."""
