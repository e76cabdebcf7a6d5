"""Drawn images with a known answer, one kind a module: they feed tests, training and samples."""
