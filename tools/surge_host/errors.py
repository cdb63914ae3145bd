"""The one error that is meant for a person's eyes.

Place in the flow: raised anywhere under a sub-command, printed by `surge_cli.main` as three short lines,
with exit code 2. Does not format, colour or log. Rule kept: it always says what happened, to what, and what
to do next.
"""


class UserError(Exception):
    """Something that the person at the keyboard can put right.

    what: what happened, without a full stop. where: the file, setting, address or argument it happened to.
    remedy: what to do next, as an instruction.
    """

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} ({self.where}); {self.remedy}"
