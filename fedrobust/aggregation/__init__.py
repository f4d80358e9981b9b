"""What the defences compute with: sorting, distances, mixtures, memory."""
