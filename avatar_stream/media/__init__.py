"""Frames in and out: mailboxes, encoders, files, cameras, the label, the watermark, and extensions of aiortc.

Owns codecs and containers. A picture is just an array here; this package knows nothing of faces.
"""
