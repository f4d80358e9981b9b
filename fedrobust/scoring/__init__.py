"""What the default defence scores hospitals by."""
