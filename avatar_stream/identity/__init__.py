"""Who the avatar is: the portraits a server knows."""
