"""What runs in the process apart: no module here imports another of the package."""
