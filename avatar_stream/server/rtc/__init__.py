"""WebRTC: offers and answers as text, and the peers that keep a connection.

Owns signalling and connections. Knows media; nothing of sessions or HTTP.
"""
