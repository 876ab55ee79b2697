"""Face geometry: tracking, filters, the 3-D face model, expression, retargeting.

This package covers every step from a camera frame to retargeted landmarks. It does not depend on portrait pictures,
networks or WebRTC.
"""
