"""Make matplotlib's SVG fit to stand inside a page: no style attributes, no colours of its own, no clashing ids.

The page's content security policy allows one stylesheet and nothing inline, so each style attribute becomes
presentation attributes. The plots draw in stand-in colours, which become classes; the stylesheet gives them the
theme's colours.
"""

import re
import xml.etree.ElementTree as ET

SVG = "http://www.w3.org/2000/svg"
XLINK = "{http://www.w3.org/1999/xlink}href"

INK, MUTED, GRID = "#000001", "#000002", "#000003"
ENGINES = ["#000010", "#000011", "#000012", "#000013", "#000014", "#000015", "#000016", "#000017"]
CLASSES = {INK: "ink", MUTED: "muted", GRID: "grid"} | {colour: f"engine{i}" for i, colour in enumerate(ENGINES)}


def inline(text: str, prefix: str, label: str) -> str:
    """The `svg` element of a matplotlib drawing. `prefix` keeps its ids apart, `label` is what a screen reader says."""
    root = ET.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _unstyle(element)
        _rename(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    ET.register_namespace("", SVG)
    return ET.tostring(root, encoding="unicode")


def _unstyle(element: ET.Element) -> None:
    style = element.attrib.pop("style", "")
    classes = []
    for name, value in re.findall(r"([\w-]+)\s*:\s*([^;]+)", style):
        value = value.strip()
        if name in ("fill", "stroke") and value in CLASSES:
            classes.append(f"{name}-{CLASSES[value]}")
        elif name == "font":
            # The family and the rest are the page's; only the size belongs to the drawing.
            size = re.search(r"([\d.]+)px", value)
            if size:
                element.set("font-size", size.group(1))
        elif name == "font-size":
            element.set("font-size", value.removesuffix("px"))
        elif name not in ("font-family", "font-stretch", "font-style", "font-variant", "font-weight"):
            element.set(name, value)
    if classes:
        element.set("class", " ".join(classes))


def _rename(element: ET.Element, prefix: str) -> None:
    if "id" in element.attrib:
        element.set("id", f"{prefix}-{element.get('id')}")
    target = element.attrib.pop(XLINK, None)
    if target is not None:
        element.set("href", f"#{prefix}-{target.removeprefix('#')}")
    for name, value in element.attrib.items():
        if "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))
