"""From what was counted to what is claimed: windows, SLA, balance, validity, summary, tables, report."""
