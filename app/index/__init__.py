"""What makes search fast: index specs, transforms, builds, switches, health and maintenance."""
