"""The page's style loads nothing from anywhere and knows dark mode."""

from pipeline.page.style import CSS


def test_the_style_is_self_contained() -> None:
    assert "url(" not in CSS and "@import" not in CSS and "http" not in CSS
    assert "prefers-color-scheme: dark" in CSS and CSS.count("{") == CSS.count("}")
