"""``python -m avatar_stream.cli``: the ``avatar-stream`` command."""

import sys

from avatar_stream.cli.main import main

sys.exit(main())
