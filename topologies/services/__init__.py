"""Services that are processes with state: servers, their clients, and moving state."""
