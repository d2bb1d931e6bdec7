"""What a question to the warden is about: simple word matching that says so when it does not understand. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_WINDOW_SECONDS = 300.0
MIN_WINDOW_SECONDS = 10.0
MAX_WINDOW_SECONDS = 86_400.0


class Topic(StrEnum):
    """What the warden can talk about."""

    SERVICE = "service"
    STATISTICS = "statistics"
    EXPLAIN = "explain"
    CONNECTIONS = "connections"
    DRILL = "drill"
    HELP = "help"
    GREETING = "greeting"
    THANKS = "thanks"
    UNKNOWN = "unknown"


class Target(StrEnum):
    """Which decision is meant."""

    OWN = "own"
    """The person's newest one."""
    CONNECTION = "connection"
    """The one that let this very socket in."""
    LAST = "last"
    """The newest of all."""


@dataclass(frozen=True, slots=True)
class Question:
    """An understood question. `window_seconds` is `None` where none was named."""

    topic: Topic
    window_seconds: float | None = None
    target: Target | None = None
    decision_id: str | None = None
    own: bool = False
    """About the asking person alone."""
    fault: str | None = None
    """What a drill shall break."""


_PHRASES: dict[Topic, dict[str, int]] = {
    Topic.SERVICE: {
        r"auth(entication|orization)?[ -]?(service|server|backend|d)": 3,
        r"\bauthd\b": 3,
        r"\b(service|backend|upstream|idp|identity provider)\b": 2,
        r"\b(breaker|circuit|canary|key ?set|jwks|revocation( feed)?|degraded mode)\b": 3,
        r"\b(health|healthy|alive|reachable|outage|incident)\b": 2,
        r"\b(up|down|ok|okay|broken|status|working|answering|state)\b": 1,
        r"\bhow (are things|is everything|is it going)\b": 2,
    },
    Topic.STATISTICS: {
        r"\b(statistics?|stats|numbers|figures|metrics|summary|overview|report)\b": 3,
        r"\b(decisions|verdicts|handshakes)\b": 3,
        r"\bwhat (has )?happened\b": 2,
        r"\b(have you|did you|you have) (decided?|done|do|seen?|refused?|denied|deny|let in|turned away)\b": 3,
        r"\bhow (many|often|fast|slow|long)\b": 2,
        r"\b(latency|percentiles?|p50|p99|quantiles?|slowest|fastest|rates?)\b": 3,
        r"\b(denied|refused|rejected|allowed|admitted|turned away|unavailable)\b": 1,
        r"\b(last|past|recent|previous) (\w+ )?(seconds?|minutes?|mins?|hours?|day)\b": 1,
    },
    Topic.EXPLAIN: {
        r"\bwhy\b": 3,
        r"\b(explain|reason|timeline|step by step|how come)\b": 3,
        r"\bwhat happened\b": 2,
        r"\b(decision|verdict|handshake)\b": 2,
        r"\b(let|got|get|come|came) (me )?in\b": 2,
        r"\b(my|this|own|that|last|latest) (\w+ )?(decision|verdict|handshake)\b": 2,
    },
    Topic.CONNECTIONS: {
        r"\bwho(s| is| are| else|m)?\b": 2,
        r"\b(connected|online|logged in|signed in|present)\b": 3,
        r"\b(connections?|sockets?|sessions?|tabs?|users|people|clients)\b": 2,
        r"\bwho am i\b": 3,
    },
    Topic.DRILL: {
        r"\b(drills?|rehears(e|al))\b": 9,
        r"\b(run|play|start|try|do) (a |an |the |some )?(\w+ )?(scenarios?|faults?|tests?|outages?)\b": 9,
        r"\b(simulate|break|inject|prove)\b": 5,
        r"\bwhat (would happen |happens )?(if|when)\b": 9,
    },
    Topic.HELP: {
        r"\bhelp\b": 3,
        r"\bwhat (can|could|do) (you|i) (do|ask|know|answer|say|tell)\b": 4,
        r"\b(commands?|options|capabilities)\b": 2,
        r"\bwho are you\b": 6,
        r"\bwhat are you\b": 4,
        r"^\?+$": 3,
    },
    Topic.GREETING: {
        r"^(hi|hello|hey|hallo|moin|servus|good (morning|afternoon|evening|day)|greetings)\b": 1,
        r"\bhow are you\b": 3,
    },
    Topic.THANKS: {r"\b(thanks|thank you|thx|cheers|great|nice|cool|perfect|danke)\b": 1, r"\b(bye|goodbye)\b": 1},
}
_COMPILED = {
    topic: [(re.compile(text), weight) for text, weight in phrases.items()] for topic, phrases in _PHRASES.items()
}

_NUMBERS = {
    "half": 0.5,
    "a": 1.0,
    "an": 1.0,
    "one": 1.0,
    "two": 2.0,
    "couple": 2.0,
    "three": 3.0,
    "four": 4.0,
    "five": 5.0,
    "few": 5.0,
    "six": 6.0,
    "seven": 7.0,
    "eight": 8.0,
    "nine": 9.0,
    "ten": 10.0,
    "fifteen": 15.0,
    "twenty": 20.0,
    "thirty": 30.0,
}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WINDOW = re.compile(
    r"\b(?:(?:(?P<digits>\d{1,6}(?:\.\d{1,3})?)[ -]*|(?P<word>" + "|".join(_NUMBERS) + r")[ -]+(?:an? |of )?))?"
    r"(?P<unit>seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|(?:(?<=\d)|(?<=\d ))[smh])\b"
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,63}")
_FAULTS = {
    "black-hole": r"\bblack ?hole",
    "reset": r"\bresets?\b",
    "header-stall": r"\bheader",
    "drip": r"\bdrip",
    "error-500": r"\b(500|internal errors?)\b",
    "overloaded-503": r"\b(503|overload)",
    "too-many": r"\b(429|too many)\b",
    "secret-refused": r"\b(401|secret)\b",
    "tls-stall": r"\b(tls|ssl|certificate)\b",
    "dns-nxdomain": r"\bnxdomain\b",
    "dns-stall": r"\b(dns|name servers?)\b",
    "mostly-slow": r"\bmostly slow\b",
    "key-rotation": r"\b(rotates?|rotation|new keys?)\b",
    "restart-in-outage": r"\brestart",
    "killed-in-outage": r"\b(kill|crash)",
    "flapping": r"\bflap",
    "late": r"\b(late|slow|slowly)\b",
    "refused": r"\b(refused?|refuses|nobody listens|gone|away|down)\b",
    "silence": r"\b(silen(ce|t)|hangs?|hung|freezes?|frozen|says nothing|does not answer)\b",
}
"""How people name what can break. The first that fits."""

_OWN = re.compile(r"\b(my|mine|me|i|own|myself)\b")
_CONNECTION = re.compile(
    r"\b(this (connection|socket|tab|session)|my (connection|socket|session)|(let|am|was|got|get|came|come) (me|i)? ?in)\b"
)


def understand(text: str) -> Question:
    """The question behind the words; `UNKNOWN` where they say nothing that is known here."""
    plain = _plain(text)
    decision_id = _decision_id(text)
    window_seconds = _window(plain)
    topic = _topic(plain, has_id=decision_id is not None)
    if topic is Topic.UNKNOWN and window_seconds is not None:
        topic = Topic.STATISTICS
    return Question(
        topic,
        window_seconds=window_seconds,
        target=_target(plain) if topic is Topic.EXPLAIN else None,
        decision_id=decision_id if topic is Topic.EXPLAIN else None,
        own=bool(_OWN.search(plain)),
        fault=_fault(plain) if topic is Topic.DRILL else None,
    )


def _plain(text: str) -> str:
    """Lower case, without accents, apostrophes and punctuation."""
    decomposed = unicodedata.normalize("NFKD", text).lower()
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return " ".join(re.sub(r"[^a-z0-9.?% -]", " ", re.sub(r"['\u2019`]", "", bare)).split())


def _topic(plain: str, *, has_id: bool) -> Topic:
    scores = {
        topic: sum(weight for pattern, weight in patterns if pattern.search(plain))
        for topic, patterns in _COMPILED.items()
    }
    if has_id:
        scores[Topic.EXPLAIN] += 3
    best = max(scores, key=lambda topic: scores[topic])
    return best if scores[best] else Topic.UNKNOWN


def _target(plain: str) -> Target:
    if _CONNECTION.search(plain):
        return Target.CONNECTION
    return Target.OWN if _OWN.search(plain) else Target.LAST


def _fault(plain: str) -> str | None:
    """By its own name, or by what people call it."""
    spaced = plain.replace("-", " ")
    named = (fault for fault in _FAULTS if fault.replace("-", " ") in spaced)
    return next(named, None) or next((fault for fault, words in _FAULTS.items() if re.search(words, spaced)), None)


def _decision_id(text: str) -> str | None:
    """A word that looks made by a machine: long enough, with a digit and a letter."""
    words = (word for word in _ID.findall(text) if re.search(r"\d", word) and re.search(r"[A-Za-z]", word))
    return next((word for word in words if not _WINDOW.fullmatch(word.lower())), None)


def _window(plain: str) -> float | None:
    match = _WINDOW.search(plain)
    if match is None:
        return DEFAULT_WINDOW_SECONDS if "recent" in plain else None
    seconds = _amount(match) * _UNITS[match["unit"][0]]
    return min(max(seconds, MIN_WINDOW_SECONDS), MAX_WINDOW_SECONDS)


def _amount(match: re.Match[str]) -> float:
    """ "the last minutes" are a few, "the last minute" is one."""
    if match["digits"]:
        return float(match["digits"])
    if match["word"]:
        return _NUMBERS[match["word"]]
    return _NUMBERS["few"] if len(match["unit"]) > 1 and match["unit"].endswith("s") else 1.0
