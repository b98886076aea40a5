"""Run a command with the test hub in the Hugging Face hub's place.

For example `python -m tests.hub.serve make reproduce PROFILE=dummy`.
The weights are random and the speech is `samples/`, so what the page then says means nothing; it shows that the path
from the hub to the page works on this machine. The command's caches are in build/test-hub, and go with `make clean`.
"""

import subprocess
import sys
from pathlib import Path

from tests.hub.client import environment
from tests.hub.content import repositories
from tests.hub.server import TestHub


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("error: give the command to run, such as make reproduce PROFILE=dummy.")
    hub = TestHub(*repositories())
    code = subprocess.run(sys.argv[1:], env=environment(hub, Path("build/test-hub").resolve()), check=False).returncode
    hub.stop()
    print(f"the test hub answered {len(hub.requests)} requests and sent {hub.sent} bytes of files", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
