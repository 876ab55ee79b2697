"""A mouth that follows a voice, for when no camera sees one."""
