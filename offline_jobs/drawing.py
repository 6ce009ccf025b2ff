"""Drawn pictures of the generated shop: a shape in a colour with a pattern, on a ground."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = 128
"""Pixels, both ways."""

COLOURS = {
    "red": (200, 40, 40),
    "orange": (235, 130, 30),
    "yellow": (235, 205, 50),
    "green": (50, 150, 70),
    "teal": (30, 150, 150),
    "blue": (45, 85, 190),
    "purple": (125, 60, 160),
    "pink": (235, 130, 170),
    "brown": (120, 80, 45),
    "black": (35, 35, 35),
    "grey": (130, 130, 130),
    "beige": (215, 190, 150),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "hexagon", "bar", "drop", "arch")
PATTERNS = ("solid", "stripes", "dots", "checks", "diagonal")
GROUNDS = ((250, 250, 250), (225, 235, 245), (245, 230, 215), (220, 240, 220), (60, 60, 70), (245, 215, 230))


@dataclass(frozen=True)
class Look:
    """What the pictures of one cluster have in common."""

    shape: str
    colour: str
    pattern: str
    ground: tuple[int, int, int]


def draw_picture(look: Look, draw: list[float]) -> bytes:
    """A JPEG, SIZE x SIZE; `draw` holds six numbers in [0, 1) for place, size, turn and shade of this one item."""
    ground = tuple(min(255, int(part + 10 * draw[5])) for part in look.ground)
    picture = Image.new("RGB", (SIZE, SIZE), ground)
    mask = Image.new("L", (SIZE, SIZE), 0)
    radius = SIZE * (0.28 + 0.1 * draw[0])
    centre = (SIZE * (0.44 + 0.12 * draw[1]), SIZE * (0.44 + 0.12 * draw[2]))
    _shape(ImageDraw.Draw(mask), look.shape, centre, radius, turn=(draw[3] - 0.5) * 0.6)
    picture.paste(_texture(look, shade=0.9 + 0.2 * draw[4]), mask=mask)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def _shape(canvas: ImageDraw.ImageDraw, shape: str, centre: tuple[float, float], radius: float, turn: float) -> None:
    x, y = centre
    match shape:
        case "circle" | "ring":
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
            if shape == "ring":
                inner = radius * 0.55
                canvas.ellipse((x - inner, y - inner, x + inner, y + inner), fill=0)
        case "cross":
            for angle in (turn, turn + math.pi / 2):
                canvas.polygon(_bar(x, y, radius, radius * 0.32, angle), fill=255)
        case "bar":
            canvas.polygon(_bar(x, y, radius * 1.15, radius * 0.4, turn + math.pi / 4), fill=255)
        case "drop":
            canvas.ellipse((x - radius * 0.7, y - radius * 0.4, x + radius * 0.7, y + radius), fill=255)
            canvas.polygon([(x, y - radius), (x - radius * 0.66, y + 0.1 * radius), (x + radius * 0.66, y)], fill=255)
        case "arch":
            canvas.pieslice((x - radius, y - radius, x + radius, y + radius), 180, 360, fill=255)
            canvas.rectangle((x - radius, y, x - radius * 0.5, y + radius), fill=255)
            canvas.rectangle((x + radius * 0.5, y, x + radius, y + radius), fill=255)
        case "star":
            points = [_point(x, y, radius if i % 2 == 0 else radius * 0.42, turn + i * math.pi / 5) for i in range(10)]
            canvas.polygon(points, fill=255)
        case _:
            corners = {"triangle": 3, "square": 4, "hexagon": 6}[shape]
            canvas.polygon([_point(x, y, radius, turn + i * math.tau / corners) for i in range(corners)], fill=255)


def _point(x: float, y: float, radius: float, angle: float) -> tuple[float, float]:
    return x + radius * math.sin(angle), y - radius * math.cos(angle)


def _bar(x: float, y: float, length: float, half: float, angle: float) -> list[tuple[float, float]]:
    along, across = (math.sin(angle), -math.cos(angle)), (math.cos(angle), math.sin(angle))
    corners = ((length, half), (length, -half), (-length, -half), (-length, half))
    return [(x + a * along[0] + b * across[0], y + a * along[1] + b * across[1]) for a, b in corners]


def _texture(look: Look, shade: float) -> Image.Image:
    """The colour with its pattern in a darker or lighter tone, over the whole picture."""
    red, green, blue = (min(255, int(part * shade)) for part in COLOURS[look.colour])
    texture = Image.new("RGB", (SIZE, SIZE), (red, green, blue))
    lift = 95 if sum(COLOURS[look.colour]) < 340 else -85
    tone = tuple(max(0, min(255, part + lift)) for part in (red, green, blue))
    canvas = ImageDraw.Draw(texture)
    steps = range(0, SIZE, 16)
    match look.pattern:
        case "stripes":
            for x in steps:
                canvas.rectangle((x, 0, x + 6, SIZE), fill=tone)
        case "dots":
            for x in steps:
                for y in steps:
                    canvas.ellipse((x, y, x + 7, y + 7), fill=tone)
        case "checks":
            for x in steps:
                for y in range(x // 16 % 2 * 16, SIZE, 32):
                    canvas.rectangle((x, y, x + 15, y + 15), fill=tone)
        case "diagonal":
            for x in range(-SIZE, SIZE, 18):
                canvas.line((x, 0, x + SIZE, SIZE), fill=tone, width=6)
    return texture
