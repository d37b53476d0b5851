"""What Fern & Co sells. Prices in euro cents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CURRENCY = "EUR"


@dataclass(frozen=True, slots=True)
class Product:
    """A plant on the shelf. *leaf* and *shade* choose its picture."""

    id: str
    name: str
    latin: str
    words: str
    price_minor: int
    leaf: str
    shade: str


_SHELF = (
    Product(
        "monstera", "Swiss cheese plant", "Monstera deliciosa", "Big, holey leaves. Forgives a missed watering.", 3490, "broad", "deep"
    ),
    Product("boston-fern", "Boston fern", "Nephrolepis exaltata", "Arching fronds for a bright bathroom.", 1895, "frond", "fresh"),
    Product("snake", "Snake plant", "Dracaena trifasciata", "Upright, stubborn, nearly indestructible.", 2450, "blade", "grey"),
    Product("pilea", "Pancake plant", "Pilea peperomioides", "Round coins on thin stalks. Shares its children.", 1290, "coin", "fresh"),
    Product("olive", "Olive tree", "Olea europaea", "A metre of Mediterranean for a sunny sill.", 4999, "twig", "grey"),
    Product("maidenhair", "Maidenhair fern", "Adiantum raddianum", "Lace on black wire. Likes it damp.", 1650, "frond", "deep"),
    Product("string-of-hearts", "String of hearts", "Ceropegia woodii", "Trails a metre down from the shelf.", 1420, "coin", "grey"),
    Product("bird-of-paradise", "Bird of paradise", "Strelitzia nicolai", "Room-high in two years. Needs light.", 6950, "broad", "fresh"),
)
SHELF: Mapping[str, Product] = {product.id: product for product in _SHELF}


def price_text(amount_minor: int, currency: str = CURRENCY) -> str:
    """An amount for people: `EUR 34.90`."""
    return f"{currency} {amount_minor // 100:,}.{amount_minor % 100:02d}"
