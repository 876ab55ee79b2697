"""Motion in and out of other rigs: the VMC protocol, phones' face trackers, and motion files.

Owns foreign protocols for motion, and speaks ``ArkitFrame`` with the rest. Knows nothing of portraits.
"""
