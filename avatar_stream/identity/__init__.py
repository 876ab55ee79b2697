"""Who the avatar shows: enrolment, the library of characters, the guard against drift, styles and identity cards.

Owns everything that is stored about people. Depends on portraits and faces, not on HTTP or WebRTC.
"""
