"""The trade-off lab: measures index choices on a sample of the data in a scratch database, and picks one by a goal."""
