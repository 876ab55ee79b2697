"""One frame from end to end: the avatar, the live loop, the offline render, the camera loop, the quality ladder.

Owns which stage runs when, and on which thread. Knows faces, portraits and networks; knows nothing of WebRTC or HTTP.
"""
