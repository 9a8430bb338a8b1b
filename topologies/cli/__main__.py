"""`python -m topologies.cli`: what ./testbed.sh hands over to."""

import sys

from topologies.cli.app import main

sys.exit(main(sys.argv[1:]))
