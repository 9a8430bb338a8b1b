"""`python -m controller.ric.validate FOLDER`: would the RIC accept the xApp in this folder?

The same checks as at a deployment, without a running testbed: the descriptor, the
entry point, and that every model file is the one the descriptor names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from controller.xapp_descriptor import (
    DescriptorError,
    entry_command,
    load_descriptor,
    verify_models,
)

PROJECT = Path(__file__).resolve().parents[2]


def main(folder: Path) -> int:
    try:
        descriptor = load_descriptor(folder)
        entry_command(descriptor, folder)
        models = verify_models(descriptor, folder, PROJECT)
    except DescriptorError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"xApp {descriptor.xapp_name} {descriptor.version} is valid: "
        f"{len(models)} model files verified"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
