"""A place where Numba may keep what it compiles of librosa.

It looks beside librosa and in the user's cache folder, and where it may write in neither, librosa cannot be imported.
"""

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType


def import_librosa() -> ModuleType:
    """librosa, which is slow to import and which most runs do without; whoever needs it gets it from here."""
    ensure_numba_cache()
    import librosa

    return librosa


def ensure_numba_cache() -> None:
    """Name a folder of this process alone in NUMBA_CACHE_DIR, where nothing else will do. Call it before librosa comes.

    Of this process alone, for Numba runs what it finds there, and others may write below /tmp.
    """
    if not os.environ.get("XDG_CACHE_HOME") and os.path.expanduser("~") == "~":
        # A user without a home, as a container's --user may be: librosa asks where the home is, and ends without one.
        os.environ["XDG_CACHE_HOME"] = _temporary()
    librosa = importlib.util.find_spec("librosa")
    beside = Path(librosa.origin).parent if librosa is not None and librosa.origin else None
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = os.environ.get("NUMBA_CACHE_DIR")
    if (
        (named and _writable(Path(named)))
        or (beside is not None and _writable(beside / "__pycache__"))
        or _writable(home / "numba")
    ):
        return
    os.environ["NUMBA_CACHE_DIR"] = _temporary()


def _temporary() -> str:
    """A new folder that goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which may have to be made first."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    return os.access(there, os.W_OK | os.X_OK)
