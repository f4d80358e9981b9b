"""What carries the messages between the server and the hospitals."""
