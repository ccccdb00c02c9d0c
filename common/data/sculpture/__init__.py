"""A glazed teapot on a carved pedestal: a scene with exact truth and nothing to download."""

from common.data.sculpture.make import make_sculpture

__all__ = ["make_sculpture"]
