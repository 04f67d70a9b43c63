"""Notices what was put into the model repository, or taken out of it."""

import logging

from runtime.errors import SettingError
from service.repository import Repository

logger = logging.getLogger("addnorm.service")


class Watch:
    """Looks at a repository again and again; what there is when it is made is no change.

    A change counts once it has stood still from one look to the next: an artifact that is copied takes its time.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.known = repository.signatures()
        self.seen = self.known.copy()

    def changed(self) -> list[str]:
        """The models of which something changed.

        A repository that cannot be read or is empty has not changed: it is a disk that is away.
        """
        try:
            found = self.repository.signatures()
        except SettingError as error:
            logger.warning("%s What is loaded goes on.", error)
            return []
        if not found:
            return []
        before, self.seen = self.seen, found
        names = sorted(found.keys() | self.known.keys())
        changed = [name for name in names if self.known.get(name) != found.get(name) == before.get(name)]
        for name in changed:
            self.known.pop(name, None)
            if name in found:
                self.known[name] = found[name]
        return changed
