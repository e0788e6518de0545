"""Draw the rooms of the code: folders as boxes, subfolders as tiles in them, imports as arrows downwards.

    python docs/make_architecture.py    # writes docs/figures/architecture.svg

Sizes and arrows are read from the code, so the picture cannot say what the code does not.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "figures" / "architecture.svg"

FLOORS = (
    ("commands",),
    ("aupipe",),
    ("fer_demo",),
    ("fer_analysis",),
    ("pipeline", "fer_models"),
    ("fer_data",),
    ("fer_display",),
)
"""Rooms from top to bottom; a test compares the order with the import contracts of pyproject.toml."""

COLOURS = {
    "commands": "#f3e3c8", "aupipe": "#f5efb8", "fer_demo": "#f7d9d0", "fer_analysis": "#cfdcef", "pipeline": "#cfe8d2",
    "fer_models": "#b9cfe8", "fer_data": "#ead0d6", "fer_display": "#ded5ea",
}  # fmt: skip
GROUND = ("fer_data", "fer_display")
"""Every room uses these: only the arrows of the floor above are drawn."""

WIDTH, HEIGHT, GAP = 12.0, 1.0, 0.62

Place = tuple[float, float, float]
"""Left, bottom and width of a box."""


@dataclass(frozen=True)
class Room:
    """A folder of the repository's top level: its lines by subfolder (``""``: its own modules), and what it imports.

    ``imports``: how many of its modules import from another room.
    """

    name: str
    files: int
    parts: dict[str, int]
    imports: dict[str, int]

    @property
    def lines(self) -> int:
        """All its lines."""
        return sum(self.parts.values())


def read_room(name: str) -> Room:
    """Count the lines of a room and the modules that import from each other one."""
    parts: Counter[str] = Counter()
    imports: Counter[str] = Counter()
    modules = [path for path in sorted((ROOT / name).rglob("*.py")) if path.name != "__main__.py"]  # starts a program
    for path in modules:
        text = path.read_text(encoding="utf-8")
        inside = path.relative_to(ROOT / name).parts
        parts[inside[0] if len(inside) > 1 else ""] += text.count("\n")
        used = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.module}
        imports.update({_room_of(module) for module in used if module.split(".")[0] == "aupipe"} - {name})
    return Room(name, len(modules), dict(parts), dict(imports))


def _room_of(module: str) -> str:
    """Name the room of a module: ``aupipe.fer_data.types`` lies in ``fer_data``, ``aupipe.runs`` in ``aupipe``."""
    second = (*module.split("."), "")[1]
    return second if any(second in floor for floor in FLOORS) else "aupipe"


def draw(rooms: dict[str, Room]) -> Figure:
    """Draw the rooms floor by floor."""
    figure = Figure(figsize=(WIDTH, len(FLOORS) * (HEIGHT + GAP) + 0.3))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, len(FLOORS) * (HEIGHT + GAP) + 0.3)
    axes.axis("off")
    scale = (WIDTH - 1.2) / max(sum(rooms[name].lines for name in floor) for floor in FLOORS)
    places: dict[str, Place] = {}
    for number, floor in enumerate(reversed(FLOORS)):
        widths = [max(rooms[name].lines * scale, 1.9) for name in floor]
        x, y = (WIDTH - sum(widths) - 0.4 * (len(floor) - 1)) / 2, 0.15 + number * (HEIGHT + GAP)
        for name, width in zip(floor, widths, strict=True):
            _draw_room(axes, rooms[name], x, y, width)
            places[name] = x, y, width
            x += width + 0.4
    for name, room in rooms.items():
        for other, count in room.imports.items():
            if other in places and (other not in GROUND or _next_floor(name, other)):
                _draw_arrow(axes, places[name], places[other], count)
    return figure


def _next_floor(name: str, other: str) -> bool:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    return floor[other] - floor[name] == 1


def _draw_room(axes: Axes, room: Room, x: float, y: float, width: float) -> None:
    axes.add_patch(
        Rectangle((x, y), width, HEIGHT, facecolor=COLOURS[room.name], edgecolor="#333", linewidth=0.8, zorder=2)
    )
    axes.text(x + 0.08, y + HEIGHT - 0.09, room.name, fontsize=11, weight="bold", va="top", zorder=4)
    said = f"{room.files} modules, {room.lines / 1000:.1f} k lines" if width > 3.4 else f"{room.lines / 1000:.1f} k"
    axes.text(x + width - 0.08, y + HEIGHT - 0.11, said, fontsize=8, va="top", ha="right", color="#444", zorder=4)
    left = x + 0.05
    for part, lines in sorted(room.parts.items(), key=lambda item: -item[1]):
        wide = (width - 0.1) * lines / room.lines
        axes.add_patch(Rectangle((left, y + 0.06), wide - 0.03, HEIGHT - 0.44, facecolor="white", alpha=0.55, zorder=3))
        name = part or "modules"
        size = min(7.5, 95 * wide / len(name))
        turned = size < 5.5
        size = min(6.2, 52 / len(name)) if turned else size
        if wide > 0.16:
            axes.text(
                left + wide / 2, y + 0.06 + (HEIGHT - 0.44) / 2, name, fontsize=size,
                rotation=90 if turned else 0, ha="center", va="center", zorder=4,
            )  # fmt: skip
        left += wide


def _draw_arrow(axes: Axes, start: Place, end: Place, count: int) -> None:
    """From the floor of one room to the ceiling of another; thicker where more modules import."""
    middle = start[0] + start[2] / 2, end[0] + end[2] / 2
    far = start[1] - end[1] > HEIGHT + GAP + 0.1
    side = 0.6 if far and middle[1] >= middle[0] else -0.6 if far else 0.0
    axes.add_patch(
        FancyArrowPatch(
            (middle[0] + side * start[2] / 2, start[1]), (middle[1] + side * end[2] / 2, end[1] + HEIGHT),
            arrowstyle="-|>", mutation_scale=10, linewidth=0.5 + count**0.5 / 4, color="#556", zorder=1 if far else 5,
        )
    )  # fmt: skip


def main() -> None:
    """Write the picture."""
    rcParams["svg.hashsalt"] = "aupipe"
    rooms = {name: read_room(name) for floor in FLOORS for name in floor}
    draw(rooms).savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
