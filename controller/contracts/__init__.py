"""What the controller publishes: the only part of it that other rooms may import.

Schemas of slices, inventory, decisions and twin messages, the address plan,
and the JSON-lines protocol of the Unix sockets.  Nothing here does anything.
"""
