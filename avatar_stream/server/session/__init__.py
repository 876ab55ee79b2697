"""Sessions: one session, the registry of all, their control commands, and the session host.

Owns the lifetime of sessions. Uses peers and the pipeline; knows nothing of processes or HTTP routes.
"""
