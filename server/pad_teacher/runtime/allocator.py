"""Memory that CPU forwards use again and again is kept, and memory that grows with what they have seen is not.

To ask the kernel anew for what was freed costs up to a quarter of the time. oneDNN in turn keeps half a megabyte for
each length of a batch and layer shape that it ever met, up to two thousand of them: a gigabyte of no use.
"""

import ctypes
import os
import sys

# glibc's mallopt: see its manual page. Buffers of a forward pass are tens of megabytes, which glibc would map and
# unmap each time, and the kernel fill with zeros page by page.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEEP = 2**30  # bytes: larger buffers, and what is free beyond this, still go back

# The caches of oneDNN and of torch above it, in shapes of layers: one forward has fewer, which all layers share.
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_SHAPES = 64


def forget_old_shapes() -> None:
    """Bound what oneDNN keeps, unless the environment says how much; call before torch is imported."""
    for cache in _CACHES:
        os.environ.setdefault(cache, str(_SHAPES))


def keep_freed_memory() -> bool:
    """Keep up to a gigabyte of freed memory, in one arena for all threads; call before the first thread starts.

    Returns:
        Whether the C library took the advice; another one than glibc is left as it is.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    advice = ((_MMAP_THRESHOLD, _KEEP), (_TRIM_THRESHOLD, _KEEP), (_ARENA_MAX, 1))
    return mallopt is not None and all(mallopt(*pair) for pair in advice)
