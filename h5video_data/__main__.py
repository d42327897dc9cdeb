"""`python -m h5video_data` is the command `h5video-data`."""

from .tools.cli import main

raise SystemExit(main())
