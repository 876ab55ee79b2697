"""HTTP: routes, what each request does, the gate before them, and their description as OpenAPI.

Owns requests and responses. Knows sessions by their host's protocol; nothing of how they are drawn.
"""
