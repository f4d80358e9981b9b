"""A federation of real processes on this machine: a SuperLink, a SuperNode for each hospital, TLS, keys."""
