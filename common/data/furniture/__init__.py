"""A made-up collection of furniture: designed, textured, lit and photographed by this package."""

from common.data.furniture.make import make_furniture

__all__ = ["make_furniture"]
