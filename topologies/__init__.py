"""The physical space: scenarios, the emulated network, its traffic and its measurement."""
