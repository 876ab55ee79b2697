"""Webcam frame to motion: tracking, filtering, geometry and retargeting of face landmarks."""
