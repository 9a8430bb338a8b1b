"""The command line behind ./testbed.sh: every command, nothing but commands.

Reads what the user typed, calls the room that does the work, prints the answer.
"""
