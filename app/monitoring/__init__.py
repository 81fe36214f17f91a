"""Monitor a running installation: status, recall of live searches, costs."""
