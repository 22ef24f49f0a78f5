"""How the figures are drawn and written: one style, PNG files, SVG for a page."""

import contextlib
import functools
import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ppfsl.data.names import printable

INK = "#1b1f24"  # text and axes; in an inline SVG it becomes the page's text colour
GREY = "#8a9099"  # grid and reference lines: seen on white and on black
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f6bb8")  # Okabe-Ito, without yellow
WRONG = COLOURS[1]  # never alone: dashes and a cross say it, too
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")  # 9 markers and 7 colours: 63 pairs
LINES = ("-", "--", "-.", ":")
CJK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "AR PL UMing CN"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "Heiti TC", "STHeiti", "Arial Unicode MS"),
    *("Microsoft YaHei", "SimHei", "SimSun"),
)
WIDTH = 7.5  # inches
NAME_LENGTH = 34  # characters


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults with ours on top, whatever the user's matplotlibrc says."""
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # where no font has Chinese
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed)],
                "font.size": 9,
                "axes.titlesize": 10,
                "axes.titlelocation": "left",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "axes.edgecolor": GREY,
                "axes.labelcolor": INK,
                "text.color": INK,
                "xtick.color": GREY,
                "ytick.color": GREY,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "grid.color": GREY,
                "grid.alpha": 0.35,
                "grid.linewidth": 0.6,
                "legend.frameon": False,
                "legend.fontsize": 8,
                "text.parse_math": False,  # a class may be called "$x"
                "svg.fonttype": "none",  # text stays text: searchable, in the page's fonts
                "svg.hashsalt": "ppfsl",
            }
        )
        yield


def styled(build: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function that builds a figure, so that it does so in our style."""

    @functools.wraps(build)
    def in_style(*args: Any, **kwargs: Any) -> Any:
        with style():
            return build(*args, **kwargs)

    return in_style


def to_png(figure: Any, dpi: int = 110) -> bytes:
    """A figure as a PNG file on white; `dpi` is in pixels per inch."""
    stream = io.BytesIO()
    with style():
        _lay_out(figure)
        figure.savefig(stream, format="png", dpi=dpi, facecolor="white")
    return stream.getvalue()


def _lay_out(figure: Any) -> None:
    """Place a figure's parts for good: `savefig` would draw it once more, each time, to do so."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def to_inline_svg(figure: Any, title: str) -> str:
    """A figure as an `<svg>` element to stand in an HTML page, transparent, its text in the page's colour.

    Args:
        figure: what a function of this module returned.
        title: what it shows, for those who cannot see it.
    """
    stream = io.BytesIO()
    with style():
        _lay_out(figure)
        figure.savefig(stream, format="svg", transparent=True)
    root = ElementTree.fromstring(stream.getvalue())
    for element in root.iter():
        for child in list(element):
            if _local(child.tag) in ("metadata", "style"):  # the style rule would reach the whole page
                element.remove(child)
        element.tag = _local(element.tag)
        element.attrib = {_local(key): value for key, value in element.attrib.items()}
        if "style" in element.attrib:
            element.set("style", element.attrib["style"].replace(INK, "currentColor"))
    root.set("role", "img")
    root.set("aria-label", printable(title))
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """A name without its XML namespace, which HTML does not need."""
    return name.rpartition("}")[2]


def short(name: object) -> str:
    """A name that fits beside an axis."""
    text = printable(name)
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "…"


def in_lines(name: str) -> str:
    """A class name in lines that fit below an image, broken behind a slash rather than within a word."""
    return textwrap.fill(short(name).replace("/", "/ "), 25).replace("/ ", "/")


def show_images(axes: Any, images: Sequence[np.ndarray], wrong: bool) -> None:
    """Images side by side in a frame; a wrong one's is thick and dashed and bears a cross."""
    size = images[0].shape[0]
    gap = max(2, size // 16)
    strip = np.zeros((size, len(images) * (size + gap) - gap, 4), dtype=np.uint8)  # the gap is transparent
    for number, image in enumerate(images):
        start = number * (size + gap)
        strip[:, start : start + size, :3] = image  # grey spreads over the three channels
        strip[:, start : start + size, 3] = 255
        if number:
            axes.axvline(start - gap / 2 - 0.5, color=GREY, linewidth=0.8)
    axes.imshow(strip, interpolation="nearest" if size < 64 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=WRONG if wrong else GREY, linewidth=2.2 if wrong else 0.8)
    if wrong:
        axes.spines[:].set_linestyle((0, (3, 1.5)))
        look = {"color": WRONG, "markeredgecolor": "white", "markersize": 13, "clip_on": False, "zorder": 5}
        axes.plot(1, 1, marker="X", transform=axes.transAxes, **look)
