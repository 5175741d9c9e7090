"""Which numbers a config may hold; apart from `config`, so that a stage that checks its fields needs nothing else."""

import math


def check_range(
    config: object,
    *names: str,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    below: float = math.inf,
) -> None:
    """ValueError for the first of these fields that is a number (not None) outside of the bounds, or not finite; of a
    tuple each number counts. It begins with the field's name, to which `load` adds the section."""
    bounds = {"{} or more": low, "more than {}": above, "{} at most": high, "less than {}": below}
    use = ", ".join(text.format(bound) for text, bound in bounds.items() if math.isfinite(bound))
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not (low <= number <= high and above < number < below):
                finite = "a finite number, " if abs(number) == math.inf else ""
                raise ValueError(f"{name} is {value}; use {finite}{use}")
