"""The user's folder for what can be fetched or made anew."""

import os
from pathlib import Path


def user_cache() -> Path | None:
    """~/.cache/jaxnets, or where XDG_CACHE_HOME says; None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxnets"
    except RuntimeError:
        return None
