"""What a run looks like to somebody who reads along: things that are finished, one that grows, and a word about now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from doorward.cli.chat.blocks import one_line, printable, split_finished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from doorward.client import Envelope

SHORT = 100
"""Letters of what is shown briefly."""
WAITING = "waiting for the answer"


class Kind(StrEnum):
    QUESTION = "question"
    THOUGHT = "thought"
    TOOL = "tool"
    ANSWER = "answer"
    """A finished piece of Markdown."""
    NOTE = "note"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Piece:
    """Something finished: it stays on the screen. `text` is printable."""

    kind: Kind
    text: str


class Scene:
    """One run. `growing`: Markdown that is not finished. `now`: a few words about what goes on; empty between runs."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.growing = ""
        self.now = ""
        self.answer = ""
        """All of the answer so far, as it came."""
        self.failed = False
        self.was_cancelled = False
        self._thought = ""
        self._tools: dict[str, str] = {}
        self._arguments: dict[str, str] = {}

    def take(self, envelope: Envelope) -> list[Piece]:
        """One event of the run; what is finished with it, in order."""
        kind = envelope.kind
        if kind == "RUN_STARTED":
            self.run_id, self.now = envelope.run_id, WAITING
            return [Piece(Kind.QUESTION, printable(question)) for question in _questions(envelope.event)]
        if envelope.ends_run:
            return self._ended(envelope)
        part, _, _ = kind.partition("_")
        take = {"REASONING": self._reasoning, "TOOL": self._tool, "TEXT": self._message}.get(part)
        return take(kind, envelope.event) if take is not None else []

    def _reasoning(self, kind: str, event: Mapping[str, Any]) -> list[Piece]:
        match kind:
            case "REASONING_START":
                self.now = "thinking"
            case "REASONING_MESSAGE_CONTENT":
                self._thought += _text(event, "delta")
                self.now = f"thinking: {one_line(self._thought[-SHORT:], SHORT)}"
            case "REASONING_END":
                thought, self._thought = one_line(self._thought, SHORT), ""
                self.now = WAITING
                return [Piece(Kind.THOUGHT, thought)] if thought else []
        return []

    def _tool(self, kind: str, event: Mapping[str, Any]) -> list[Piece]:
        call = _text(event, "toolCallId")
        match kind:
            case "TOOL_CALL_START":
                self._tools[call] = one_line(_text(event, "toolCallName") or "a tool", SHORT)
                self.now = f"using {self._tools[call]}"
            case "TOOL_CALL_ARGS":
                self._arguments[call] = (self._arguments.get(call, "") + _text(event, "delta"))[: 4 * SHORT]
            case "TOOL_CALL_END":
                return [*self._finished(), Piece(Kind.TOOL, self._called(call))]
            case "TOOL_CALL_RESULT":
                self.now = WAITING
        return []

    def _message(self, kind: str, event: Mapping[str, Any]) -> list[Piece]:
        match kind:
            case "TEXT_MESSAGE_START":
                self.now = "answering"
            case "TEXT_MESSAGE_CONTENT":
                return self._said(_text(event, "delta"))
            case "TEXT_MESSAGE_END":
                return self._finished()
        return []

    def _said(self, delta: str) -> list[Piece]:
        self.answer += delta
        finished, self.growing = split_finished(self.growing + printable(delta))
        return [Piece(Kind.ANSWER, finished)] if finished.strip() else []

    def _finished(self) -> list[Piece]:
        rest, self.growing = self.growing, ""
        return [Piece(Kind.ANSWER, rest)] if rest.strip() else []

    def _called(self, subject: str) -> str:
        name, arguments = self._tools.pop(subject, "a tool"), self._arguments.pop(subject, "")
        return one_line(f"{name} {arguments}" if arguments not in {"", "{}"} else name, SHORT)

    def _ended(self, envelope: Envelope) -> list[Piece]:
        self.now = ""
        pieces = self._finished()
        if envelope.kind == "RUN_ERROR":
            self.failed = True
            words = one_line(_text(envelope.event, "message") or "The run failed.", 4 * SHORT)
            again = " Ask again." if envelope.is_retryable and "again" not in words else ""
            return [*pieces, Piece(Kind.FAILURE, words + again)]
        outcome = envelope.event.get("outcome")
        if isinstance(outcome, dict) and outcome.get("type") == "cancelled":
            self.was_cancelled = True
            return [*pieces, Piece(Kind.NOTE, "stopped")]
        return pieces


def history(messages: list[Any], *, turns: int) -> list[Piece]:
    """The last questions of a snapshot, and what was answered."""
    pieces: list[Piece] = []
    for message in messages:
        content = _text(message, "content") if isinstance(message, dict) else ""
        if not content.strip():
            continue
        if message.get("role") == "user":
            pieces.append(Piece(Kind.QUESTION, printable(content)))
        elif message.get("role") == "assistant":
            pieces.append(Piece(Kind.ANSWER, printable(content)))
    asked = [place for place, piece in enumerate(pieces) if piece.kind is Kind.QUESTION]
    return pieces[asked[-turns] :] if len(asked) > turns else pieces


def _questions(event: Mapping[str, Any]) -> list[str]:
    """What was asked, as the start of a run tells every tab."""
    given = event.get("input")
    messages = given.get("messages") if isinstance(given, dict) else None
    asked = [each for each in messages or [] if isinstance(each, dict) and each.get("role") == "user"]
    return [text for text in (_text(each, "content") for each in asked[-1:]) if text]


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""
