"""What is wrong with the bytes of a medium."""


class MediaError(ValueError):
    """These bytes cannot be used: `reason` is a stable snake_case code, `detail` says what was found in them."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that the error survives pickling
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
