"""Pictures come in: found in folders and manifests, registered, watched, taken from videos."""
