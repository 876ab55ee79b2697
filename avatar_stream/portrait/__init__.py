"""Landmarks to picture: portrait set-up, warp, mouth and eyes, the rolling diffusion window, the compositor.

Owns how a picture is made, and the qualities to draw it at. Knows faces and the runtime's protocol; knows nothing of
characters, of files, or of WebRTC.
"""
