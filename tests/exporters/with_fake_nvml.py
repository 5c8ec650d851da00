"""The exporter as a process on a made-up library with two cards.

    python -m tests.exporters.with_fake_nvml HANG_FILE FLAGS...

While HANG_FILE exists, each call about the first card hangs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from exporters import nvml_library
from exporters.__main__ import main
from tests.exporters.fake_nvml import FakeLibrary, cards

if __name__ == "__main__":
    library = FakeLibrary(cards(2), time.monotonic)
    library.cards[0].hangs = True
    library.hang_file = Path(sys.argv[1])
    nvml_library.use(library)
    sys.exit(main(sys.argv[2:], os.environ))
