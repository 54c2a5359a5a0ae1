"""The bundled network that reads text: all-MiniLM-L6-v2, cut and packed; nothing is trained."""
