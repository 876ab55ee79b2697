"""Who the avatar is: enrolment, the library of characters, the guard that watches over them, styles and cards.

Owns what is kept of people on disk. Knows portraits and faces; knows nothing of HTTP or WebRTC.
"""
