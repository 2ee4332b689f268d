"""Text detectors: text in, score out. One detector a file, one protocol, no Beam."""
