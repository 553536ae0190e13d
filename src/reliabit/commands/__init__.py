"""What `reliabit` does, a file a concern."""
