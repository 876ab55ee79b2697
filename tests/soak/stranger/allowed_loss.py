"""What an attempt may end on purpose."""

from enum import Enum


class AllowedLoss(Enum):
    """What ends with an attempt, without being a failure."""

    NOTHING = "nothing"
    WORKER = "a session process other than the bystander's, ended on purpose"
    BYSTANDER = "the bystander's session process, ended on purpose: a new session must work afterwards"
