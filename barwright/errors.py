"""The one base of every error Barwright raises itself."""


class BarwrightError(Exception):
    """Something Barwright can explain: `message` says what was wrong with which value, `hint` what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message} {hint}")
        self.message = message
        self.hint = hint
