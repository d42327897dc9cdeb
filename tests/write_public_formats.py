"""Writes small files as public projects write them, each project in a folder of its name.

    python tests/write_public_formats.py

docs/recordings.md and docs/pictures.md open them. They are written where you are.
"""

import sys
from pathlib import Path

from picture_rows_helpers import PICTURE_SCHEMAS
from schema_helpers import SCHEMAS


def main() -> None:
    for name, write in {**SCHEMAS, **PICTURE_SCHEMAS}.items():
        folder = Path(name)
        folder.mkdir()
        write(folder)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    main()
