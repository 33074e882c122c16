"""A queue that is fair between the owners of what waits in it."""

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

Owner = TypeVar("Owner")
Item = TypeVar("Item")


class Turns(Generic[Owner, Item]):
    """Items that wait, taken one of each owner in turn (round robin).

    However much an owner has put in, another waits for one item of each owner before it.
    """

    def __init__(self) -> None:
        self._owners: deque[tuple[Owner, deque[Item]]] = deque()  # the next one first
        self._length = 0

    def __len__(self) -> int:
        """Return the number of items."""
        return self._length

    def put(self, owner: Owner, items: Iterable[Item]) -> None:
        """Have the items of a new owner wait behind all owners that wait."""
        own = deque(items)
        if own:
            self._owners.append((owner, own))
            self._length += len(own)

    def take(self) -> Item:
        """Remove and return an item of the next owner, which then comes last.

        Raises:
            IndexError: no items wait.
        """
        owner, items = self._owners.popleft()
        item = items.popleft()
        self._length -= 1
        if items:
            self._owners.append((owner, items))
        return item

    def next_owner(self) -> Owner:
        """Return the owner of the item that is taken next."""
        return self._owners[0][0]

    def drop(self) -> int:
        """Remove all items of the next owner; return how many there were."""
        _, items = self._owners.popleft()
        self._length -= len(items)
        return len(items)
