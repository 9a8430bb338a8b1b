"""From what was counted to what is claimed: windows, SLA, balance, summary, tables, report."""
