"""One module a group of paths; each has a blueprint."""
