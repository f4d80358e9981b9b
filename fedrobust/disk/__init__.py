"""Files and locks that several processes, or somebody else, may write; nothing here knows what is in them."""
