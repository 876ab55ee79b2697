"""Frames in and out: mailboxes, WebRTC tracks, files and frame marks."""
