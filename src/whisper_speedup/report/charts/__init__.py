"""The page's drawings, as SVG that takes its colours and type from the stylesheet."""
