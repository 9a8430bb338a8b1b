"""Real traffic between the hosts: flows, senders, receivers, counters, leak detectors."""
