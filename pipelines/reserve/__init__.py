"""The written archive: layout, writer, data card."""
