"""Opens what is being erased: for the erasure itself alone, and only until the keys are destroyed."""

from __future__ import annotations
