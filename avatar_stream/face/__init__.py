"""A face in numbers: tracking, filters, the 3-D face model, expression, retargeting.

Owns everything between a camera picture and a portrait's moved landmarks. Knows nothing of portraits as pictures, of
networks, or of WebRTC.
"""
