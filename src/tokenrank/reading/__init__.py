"""Reading of sources: ``observe`` makes an ``Observation`` of a picture, text, sound, module, trace or chain."""

from .observe import Reading, Source, observe

__all__ = ["Reading", "Source", "observe"]
