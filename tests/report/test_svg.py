"""Figures: well-formed, every number readable, scales that show the data."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlsim.report.heat import Heat
from nlsim.report.svg import LEFT, WIDTH, Axis, Dot, Dots, Lines, Projection, Reference, Series, number

values = st.floats(-1e6, 1e6) | st.just(math.nan)


@given(st.lists(st.tuples(values, values, values, values), min_size=0, max_size=8), st.sampled_from(["linear", "log"]))
def test_any_data_gives_well_formed_svg(points: list[tuple[float, ...]], scale: str) -> None:
    x, y, low, high = ([p[i] for p in points] for i in range(4))
    axis = Axis("x <&>", scale)  # type: ignore[arg-type]
    figure = Lines("title \"&<'", axis, Axis("y"), [Series("a & b", x, y, low, high), Series("c", x, y, step=True)])
    root = ElementTree.fromstring(figure.svg())
    for mark in root.iter():
        for key in ("cx", "cy", "x1", "x2", "y1", "y2"):
            if key in mark.attrib:
                assert math.isfinite(float(mark.attrib[key]))


def test_every_point_and_reference_says_its_numbers() -> None:
    figure = Lines(
        "t",
        Axis("n", "log"),
        Axis("nats"),
        [Series("s", [1, 10], [0.5, 0.25], [0.4, 0.2], [0.6, 0.3])],
        [Reference("mean", 0.3)],
    )
    titles = [node.text for node in ElementTree.fromstring(figure.svg()).iter() if node.tag.endswith("title")]
    assert titles == ["mean: 0.3", "s: 1 → 0.5 (0.4 to 0.6)", "s: 10 → 0.25 (0.2 to 0.3)"]


def test_a_dot_plot_has_a_row_per_finite_dot() -> None:
    dots = Dots(
        "t", Axis("nats"), [Dot("a", 1, 0.5, 1.5), Dot("b", math.nan, math.nan, math.nan), Dot("c", 2, 1, 3, 1)]
    )
    root = ElementTree.fromstring(dots.svg())
    assert [node.text for node in root.iter() if node.get("class") == "label"] == ["a", "c"]


def test_whiskers_end_at_the_ends_of_the_interval() -> None:
    """Mistake 28: ends of intervals were drawn as distances from the value."""
    dots = [Dot("a", 5, 4, 7), Dot("b", 4, 4, 4), Dot("c", 7, 7, 7)]
    root = ElementTree.fromstring(Dots("t", Axis("nats"), dots).svg())
    points = [float(node.attrib["cx"]) for node in root.iter() if node.tag.endswith("circle")]
    lines = [node for node in root.iter() if node.get("class") == "interval"]
    assert [float(lines[0].attrib[key]) for key in ("x1", "x2")] == points[1:]


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.sampled_from(["linear", "log"]))
def test_a_projection_is_monotone_and_shows_its_data(a: float, b: float, scale: str) -> None:
    project = Projection.fit(Axis("x", scale), [a, b], LEFT, WIDTH)  # type: ignore[arg-type]
    assert LEFT <= project(min(a, b)) <= project(max(a, b)) <= WIDTH
    ticks = project.ticks()
    assert ticks == sorted(ticks)
    assert all(project.low <= tick <= project.high or math.isclose(tick, project.low) for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.19149, "3.191"),
        (0.0, "0"),
        (-0.083, "−0.083"),
        (32_768, "32,768"),
        (2.5e9, "2.5e9"),
        (math.nan, "n/a"),
        (1e-7, "1e-7"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text


def test_a_heat_map_says_each_share_and_shades_inside_columns() -> None:
    root = ElementTree.fromstring(Heat("t", "said", "true", [[3, 1], [0, 0], [5, 500]]).svg())
    cells = [node for node in root.iter() if node.get("class") == "cell"]
    titles = [node.text for cell in cells for node in cell]
    assert titles[:2] == ["said 0, true 0: 3 of 4 (75 %)", "said 0, true 1: 1 of 4 (25 %)"]
    assert cells[0].get("fill-opacity") == cells[5].get("fill-opacity") == "1.00"
    assert float(cells[2].get("fill-opacity") or 1) < 0.1  # an empty column


def test_a_vertical_line_stands_at_its_value() -> None:
    figure = Lines("t", Axis("n"), Axis("y"), [Series("s", [0, 10], [1, 2])], verticals=[Reference("mean", 5)])
    (line,) = [n for n in ElementTree.fromstring(figure.svg()).iter() if n.get("class") == "reference"]
    assert line.get("x1") == line.get("x2")
    assert LEFT < float(line.get("x1") or 0) < WIDTH
