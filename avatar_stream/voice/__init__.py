"""Lip sync: face motion from a voice, without a camera.

This package turns sound into ARKit frames. It depends on ``face``, but not on portraits.
"""
