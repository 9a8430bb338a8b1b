"""What-if: forks of the network's twins, a fast emulator that runs them ahead, and their score.

`links` (queues of a link) → `emulator` (links over time) → `scoring` (SLA windows) are pure
numpy.  `snapshot` → `forecast` → `strategies` → `fork` predict on twins; `service` keeps the
forks of a running RIC.
"""
