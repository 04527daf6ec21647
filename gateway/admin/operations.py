"""What an operator does to every process: it is answered when all have done it, or says which has not."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from gateway.admin.overrides import Change, Overrides
from gateway.admin.processes import Answer, Processes


class NotDone(Exception):
    """It was not done, or not everywhere.

    Args:
        status: what HTTP says of it.
        why: one line for the operator.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Operations:
    """The admin API's verbs.

    Args:
        processes: who is asked.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    async def pools(self) -> list[dict[str, Any]]:
        """The endpoints of every pool as each process sees them."""
        answers = await self._all({"ask": "pools"})
        return [{**row, "process": answer.process} for answer in answers for row in answer.said["endpoints"]]

    async def rollouts(self) -> list[dict[str, Any]]:
        """Canaries and labels as each process that answers has them; none while none serves."""
        answers = await self.processes.ask({"ask": "rollouts"})
        return [
            {"process": answer.process, **answer.said["rollouts"]}
            for answer in answers
            if "rollouts" in answer.said
        ]

    async def overrides(self) -> list[dict[str, Any]]:
        """What was changed since the last reload, each with the processes that have it."""
        answers = await self._all({"ask": "overrides"})
        shown: list[dict[str, Any]] = []
        for change in Overrides(_changes(answers)):
            told = change.to_json()
            having = [answer.process for answer in answers if told in answer.said["overrides"]]
            shown.append({**told, "processes": having})
        return shown

    async def change(self, change: Change) -> int:
        """Make a change in every process; how many did.

        Raises:
            NotDone: there is no such thing, or not every process has done it.
        """
        async with self.processes.turn:
            return len(await self._all({"ask": "change", "change": change.to_json()}))

    async def void(self, model: str) -> dict[str, int | None]:
        """Forget every answer of a model: in memory and in Redis; how many were dropped.

        Memory twice: while Redis is searched, a process may take an answer from there once more.

        Raises:
            NotDone: there is no such model, or not every process has done it.
        """
        async with self.processes.turn:
            before = await self._all({"ask": "void_memory", "model": model})
            redis = await self.processes.ask_first({"ask": "void_redis", "model": model})
            after = await self._all({"ask": "void_memory", "model": model})
            _check([redis])
        memory = sum(answer.said["dropped"] for answer in (*before, *after))
        return {"memory": memory, "redis": redis.said["dropped"]}

    async def reload(self) -> int:
        """Read the configuration again in every process; how many did.

        Raises:
            NotDone: it cannot be used, or not every process has done it.
        """
        async with self.processes.turn:
            return len(await self._all({"ask": "reload"}))

    async def _all(self, question: Mapping[str, Any]) -> Sequence[Answer]:
        answers = await self.processes.ask(question)
        if not answers:
            raise NotDone(HTTPStatus.SERVICE_UNAVAILABLE, "no process serves yet; ask again in a moment")
        _check(answers)
        return answers


def _check(answers: Sequence[Answer]) -> None:
    """Raise what was refused: by all in the same words, or by some of them."""
    failed = {answer.process: answer.said["failed"] for answer in answers if "failed" in answer.said}
    refused = {answer.process: answer.said["refused"] for answer in answers if "refused" in answer.said}
    if not failed and not refused:
        return
    if len(refused) == len(answers) and len({why for _, why in refused.values()}) == 1:
        raise NotDone(*answers[0].said["refused"])
    whys = failed | {process: why for process, (_, why) in refused.items()}
    told = "; ".join(f"process {process}: {why}" for process, why in sorted(whys.items()))
    done = len(answers) - len(whys)
    raise NotDone(
        HTTPStatus.SERVICE_UNAVAILABLE, f"done by {done} of {len(answers)} processes; {told}; ask again"
    )


def _changes(answers: Sequence[Answer]) -> list[Change]:
    return [Change(**told) for answer in answers for told in answer.said["overrides"]]
