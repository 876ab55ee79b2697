"""Sessions in processes of their own: the pool, a process's own side, the pipe between both and what goes over it.

Owns processes and pipes. Knows sessions; nothing of HTTP.
"""
