"""Session processes: the pool in the server, the code of each process, the pipe between them and its messages.

Owns processes and pipes. Uses sessions; knows nothing of HTTP.
"""
