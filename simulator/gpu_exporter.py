"""The exporter over a simulated driver: `python -m simulator.gpu_exporter FLAGS...`."""

from __future__ import annotations

import os
import sys

from exporters import nvml_library
from exporters.__main__ import main
from simulator.gpu_driver import SimulatedDriver

if __name__ == "__main__":
    nvml_library.use(SimulatedDriver())
    sys.exit(main(["--collector.nvml=on", *sys.argv[1:]], os.environ))
