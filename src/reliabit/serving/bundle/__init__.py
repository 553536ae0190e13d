"""What a promoted configuration is served from: the bundle's folder, its manifest and description, and it at work."""
