"""Sessions: what one is, all of them, what may be said to them, and where they are hosted.

Owns a session's life. Knows peers and the pipeline; nothing of processes or HTTP routes.
"""
