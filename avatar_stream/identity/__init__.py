"""Who the avatar shows: enrolment, the library of characters, the guard against drift, styles and identity cards.

Owns everything that is stored about people. Knows portraits and faces; does not know HTTP or WebRTC.
"""
