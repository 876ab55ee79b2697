"""Frames in and out: mailboxes, encoders, files, cameras, the label and the watermark, what aiortc leaves open.

Owns codecs and containers. A picture is an array here: whose face it shows is unknown.
"""
