"""Read a page as a browser would, as far as these tests need it: tags balanced, ids unique, the text as shown."""

from html.parser import HTMLParser

BLOCKS = {"td", "th", "dt", "dd", "p", "li", "h1", "h2", "h3", "caption", "figcaption", "text", "label", "option"}
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """`elements` are (tag, attributes), `text` is what is shown, white space collapsed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in BLOCKS:
            self.pieces.append(" ")
        assert self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def all(self, name: str) -> list[str | None]:
        """The values of one attribute, in order."""
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def count(self, tag: str, **attributes: str) -> int:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return sum(t == tag and wanted.items() <= a.items() for t, a in self.elements)
