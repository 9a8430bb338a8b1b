"""When a user will be served by a cell, and for how long: features, worlds, network, training."""
