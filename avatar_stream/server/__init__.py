"""The server: HTTP, signalling, sessions, the control channel, access and metrics.

Owns sessions and decides who may do what. It calls ``portrait`` and ``pipeline`` to draw pictures.
"""
