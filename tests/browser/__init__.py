"""Tests in a browser: a package, so that what its folder shares ends with it."""
