"""WebRTC: SDP offers and answers, and the peer connections.

Owns signalling and connections. Uses media; knows nothing of sessions or HTTP.
"""
