"""What defences compute with: distances, sketches and sorting."""
