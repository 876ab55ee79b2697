"""A mouth that follows a voice, for when no camera sees one.

Owns sound to mouth shapes. Knows the face's terms; knows nothing of portraits.
"""
