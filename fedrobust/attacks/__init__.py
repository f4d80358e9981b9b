"""What attacks share: collusion, attack strength, line search and comparison."""
