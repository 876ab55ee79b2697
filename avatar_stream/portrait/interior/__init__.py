"""What a warp cannot know, drawn: mouth, teeth, eyes and lids.

Owns what is drawn in a hole of the warp. Knows faces; nothing of networks.
"""
