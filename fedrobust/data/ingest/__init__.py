"""Records as hospitals have them on their disks: listed in a table, checked at once, decoded once, cached."""
