"""What a hospital trains."""
