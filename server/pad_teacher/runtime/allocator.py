"""Memory of CPU forward passes: keep freed buffers, and bound the caches of oneDNN.

Asking the kernel again for freed buffers costs up to a quarter of the time. oneDNN keeps half a megabyte for each
pair of batch length and layer shape, up to two thousand of them: a useless gigabyte.
"""

import ctypes
import os
import sys

# Parameters of glibc's mallopt. Buffers of a forward pass have tens of megabytes. By default glibc maps and unmaps
# them each time, and the kernel fills them with zeros page by page.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEEP = 2**30  # bytes; larger buffers, and free memory beyond this, still go back to the kernel

# Caches of oneDNN and of torch, counted in shapes. A forward pass has fewer shapes, shared by all layers.
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_SHAPES = 64


def forget_old_shapes() -> None:
    """Bound the caches of oneDNN, unless the environment sets them. Call before torch is imported."""
    for cache in _CACHES:
        os.environ.setdefault(cache, str(_SHAPES))


def keep_freed_memory() -> bool:
    """Keep up to a gigabyte of freed memory, in one arena for all threads. Call before the first thread starts.

    Returns:
        Whether the C library took the advice. Only glibc does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    advice = ((_MMAP_THRESHOLD, _KEEP), (_TRIM_THRESHOLD, _KEEP), (_ARENA_MAX, 1))
    return mallopt is not None and all(mallopt(*pair) for pair in advice)
