"""HTTP: routes, request handlers, the middleware in front of them, and the OpenAPI description.

Owns requests and responses. Uses sessions through the protocols of ``session.host``; knows nothing of drawing.
"""
