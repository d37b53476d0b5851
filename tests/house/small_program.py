"""Says how it lives, then ends as it is told."""

import atexit
import json
import os
import sys

atexit.register(print, "left")
line = sys.stdin.readline()
known = {"pid": os.getpid(), "session": os.getsid(0), "env": dict(os.environ), "words": sys.argv[1:], "line": line}
sys.stdout.write(json.dumps(known) + "\n")
sys.exit(int(sys.stdin.readline()))
