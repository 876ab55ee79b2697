"""The server: HTTP, signalling, sessions, the control channel, access and metrics.

Owns sessions and who may do what. How a picture is made is the business of ``portrait``; here it is called.
"""
