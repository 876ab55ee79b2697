"""Motion to picture: portrait set-up, warp, mouth and eyes, the rolling diffusion window, the compositor.

Owns how a picture is made, and the quality ladder. Knows faces and the runtime's protocol; knows nothing of who
somebody is, of files, or of WebRTC.
"""
