"""Endings of files' names, small letters: which are pictures, sounds, videos and texts, as far as a name tells."""

from __future__ import annotations

PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".ico"}
)
"""Of formats that ``models.read_image`` reads."""
OTHER_PICTURES = frozenset(
    {".svg", ".heic", ".heif", ".jxl", ".raw", ".eps", ".ps", ".pdf", ".psd", ".pcx", ".sgi", ".dds", ".icns", ".exr"}
    | {".apng", ".dib", ".j2k", ".jpf", ".jpx", ".mpo", ".xbm", ".xpm", ".fits"}
)
"""Pictures, too: a name that ends so is no text, whether it can be read or not."""
SOUNDS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aiff", ".aif"})
VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v"})
TEXTS = frozenset({".txt", ".md", ".rst", ".html", ".json", ".csv"})
