"""Watermark schemes: tokens or characters in, evidence out. One scheme a file, no Beam."""
