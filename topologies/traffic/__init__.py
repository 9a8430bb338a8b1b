"""Real traffic between the hosts' namespaces: flows, senders, receivers, counters, leak detectors."""
