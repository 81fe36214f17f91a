"""How it goes: status, recall of live searches, costs."""
