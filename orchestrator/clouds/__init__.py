"""Notices by a cloud that it is about to take the machine away, read from its metadata server."""
