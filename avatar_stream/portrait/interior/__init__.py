"""Draws what a warp cannot know: mouth, teeth, eyes and lids.

Owns everything that is drawn into a warped portrait. Knows faces; nothing of networks.
"""
