"""The warden's sentences: from a tool's result to an answer in plain words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Result = Mapping[str, Any]

ABILITIES = (
    "I watch this door and can tell you:\n"
    "- how the auth service is (\u201cHow is the auth service?\u201d)\n"
    "- what I decided lately (\u201cWhat did you decide in the last 15 minutes?\u201d)\n"
    "- why a decision was made (\u201cWhy was my last decision made?\u201d, or its id)\n"
    "- who is connected (\u201cWho is connected?\u201d)\n"
    "- what happens when the auth service breaks: for an admin I try it out, beside this door "
    "(\u201cRun a drill\u201d, \u201cWhat if DNS hangs?\u201d)"
)
GREETING = "Hello! " + ABILITIES
HELP = "I am the warden: no language model, just the door\u2019s own records. " + ABILITIES
THANKS = "You are welcome. Ask again whenever you like."
DRILL_BEGINS = "I start another door beside this one and break its way to an auth service: ten seconds or so."
UNKNOWN = "I did not understand that. " + ABILITIES

_MODES = {
    "local_jwt": "whoever holds a token that I can verify myself still gets in, for a bounded time",
    "cached_only": "whoever was confirmed by the auth service lately still gets in, for a bounded time",
    "deny": "nobody gets in until it is back",
}
_VERDICTS = {"allow": "let in", "deny": "refused", "unavailable": "told to try again because I could not ask"}
_REASONS = {
    "live": "confirmed by the auth service",
    "cached": "confirmed by it a moment before",
    "local": "verified here, by signature and claims",
    "degraded_local": "let in on a locally verified token during an outage",
    "degraded_cached": "let in on an earlier confirmation during an outage",
    "degraded_test": "a test user, let in by an E2E test token during an outage",
    "breaker_open": "the breaker was open and nothing else proved the token",
    "deadline": "the auth service did not answer in time",
    "upstream": "the auth service could not be reached or failed",
    "config": "the auth service refused our own credential",
    "keyset": "the key set could not be had",
    "stale": "the outage had lasted too long to let anybody in unasked",
    "protocol": "the auth service answered something outside the contract",
    "throttled": "the auth service asked us to slow down",
    "overloaded": "too many questions were under way",
    "auth_required": "no credential came along",
    "bad_credential_format": "the credential was malformed",
    "token_invalid": "the token was not valid",
    "token_expired": "the token had expired",
    "token_revoked": "the token had been revoked",
    "token_rejected": "the auth service said that the token is not good",
    "forbidden": "a permission was missing",
    "origin_denied": "the page came from an origin that is not allowed",
    "rate_limited": "too many attempts came from one address",
    "restarting": "the server was restarting",
    "store": "the node\u2019s own store did not answer",
    "internal": "something failed on our side",
}


def service_answer(result: Result) -> str:
    """How the auth service is, or how each of them is."""
    services = result["services"]
    if len(services) == 1:
        return _service(services[0])
    return "\n".join(f"- {state['issuer']}: {_service(state)}" for state in services)


def _service(result: Result) -> str:
    sentences = [_condition(result), _health(result), _knowledge(result)]
    if result["breaker"] != "closed":
        sentences.append(f"Meanwhile {_MODES.get(result['degrade_mode'], 'the rules of the outage hold')}.")
    if result.get("last_error"):
        sentences.append(f"Its last error was: {result['last_error']}.")
    if result["bars"]:
        sentences.append(
            f"{count(result['bars'], 'token')} that it once refused {_is(result['bars'])} kept out, whatever happens."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def _condition(result: Result) -> str:
    since = duration(result["breaker_since_seconds"])
    where = f" at {result['url']}" if result.get("url") else ""
    match result["breaker"]:
        case "open":
            told = (
                f"is not answering. I stopped waiting for it {since} ago (the breaker is open) and try it every second."
            )
        case "half_open":
            told = f"seems to be coming back: the breaker has been half open for {since}, and I am testing it."
        case _ if result["last_probe_passed"] is False:
            unsure = result["health"] != "unhealthy"
            trouble = (
                "may be in trouble: its last health check failed" if unsure else "is in trouble: its health check fails"
            )
            told = f"{trouble}, though the breaker is still closed."
        case _ if result["health"] == "unhealthy":
            told = "seems to be coming back: its last health check passed, after some that failed."
        case _:
            told = f"is fine as far as I can see: the breaker has been closed for {since}."
    return f"The auth service{where} {told}"


def _health(result: Result) -> str:
    state = ""
    if (passed := result["last_probe_passed"]) is not None:
        took = milliseconds(result["last_probe_ms"])
        state = f"; the last health check {'passed and took' if passed else 'failed after'} {took}"
    contact = result["last_contact_age_seconds"]
    heard = "I have never had an answer from it" if contact is None else f"Its last answer came {duration(contact)} ago"
    under_way = (
        f", and {count(result['in_flight'], 'question')} {_is(result['in_flight'])} under way"
        if result["in_flight"]
        else ""
    )
    return heard + state + under_way + "."


def _knowledge(result: Result) -> str:
    age = result["keyset_age_seconds"]
    keys = "I have no key set yet" if age is None else f"The key set is {duration(age)} old"
    feed_age = result["feed_age_seconds"]
    heard = f"; it last answered {duration(feed_age)} ago" if feed_age is not None else ""
    feed = {
        "live": f", and the revocation feed is live{heard}",
        "stale": f", and the revocation feed is stale{heard}",
        "missing": ", and the service has no revocation feed",
    }
    return keys + feed.get(result["feed"], "") + "."


def statistics_answer(result: Result) -> str:
    """What was decided."""
    window = duration(result["window_seconds"])
    if not result["total"]:
        return f"I decided nothing in the last {window}: nobody knocked."
    verdicts = _listing(
        [f"{number} {_VERDICTS.get(verdict, verdict)}" for verdict, number in _ranked(result["by_verdict"])]
    )
    lines = [f"In the last {window} I decided about {count(result['total'], 'opening handshake')}: {verdicts}."]
    if result["p50_ms"] is not None:
        lines.append(
            f"Half of them took at most {milliseconds(result['p50_ms'])}, 99 % at most {milliseconds(result['p99_ms'])}, "
            f"and the slowest {milliseconds(result['max_ms'])}."
        )
    reasons = [
        f"- {number} \u00d7 {reason}: {_REASONS.get(reason, reason)}" for reason, number in _ranked(result["by_reason"])
    ]
    return " ".join(lines) + ("\nThe reasons:\n" + "\n".join(reasons) if reasons else "")


def decision_answer(result: Result) -> str:
    """Why one decision was made, with its timeline."""
    if not result["found"]:
        return _not_found(result)
    head = [_verdict(result), f"It took {milliseconds(result['total_ms'])} in all{_overrun(result)}."]
    if result["provisional"]:
        head.append("The auth service had not answered within its patience, so the question went on in the background.")
    if result["detail"]:
        head.append(f"Detail: {result['detail']}.")
    steps = [f"- {step['name']}: {milliseconds(step['ms'])}" for step in result["steps"]]
    return " ".join(head) + ("\nStep by step:\n" + "\n".join(steps) if steps else "")


def _verdict(result: Result) -> str:
    at = datetime.fromtimestamp(result["at"], UTC).strftime("%H:%M:%S UTC")
    who = "you were" if result["own"] else f"{result['user_id'] or 'somebody unknown'} ({result['address']}) was"
    code = f" with {result['code']}" if result["code"] else ""
    assurance = (
        f" (assurance {result['assurance']}{', degraded' if result['degraded'] else ''})" if result["assurance"] else ""
    )
    outcome = _VERDICTS.get(result["verdict"], result["verdict"])
    why = _REASONS.get(result["reason"], result["reason"])
    return (
        f"Decision {result['id']}: at {at}, on {result['path']}, {who} {outcome}{code}{assurance}. "
        f"The reason is \u201c{result['reason']}\u201d: {why}. The step that decided was \u201c{result['source']}\u201d."
    )


def _overrun(result: Result) -> str:
    late = result["overrun_ms"]
    return f", {milliseconds(late)} past the deadline" if late > 0 else ""


def _not_found(result: Result) -> str:
    if "decision_id" in result:
        return (
            f"I remember no decision {result['decision_id']} that you may see. I keep only the newest ones, "
            "and those about other people need the permission \u201cadmin\u201d."
        )
    return "I remember no decision about you. I keep only the newest ones, and only since this process began."


def connections_answer(result: Result) -> str:
    """Who is connected."""
    if result["scope"] == "own":
        return _own_connections(result)
    head = f"{count(result['count'], 'connection')} {_is(result['count'])} open, by {count(result['people'], 'person', 'people')}."
    return head + _connection_lines(result, named=True)


def _own_connections(result: Result) -> str:
    head = f"You have {count(result['count'], 'open connection')}."
    tail = "\n\nWho else is connected needs the permission \u201cadmin\u201d." if result["others_withheld"] else ""
    return head + _connection_lines(result, named=False) + tail


def _connection_lines(result: Result, *, named: bool) -> str:
    lines = []
    for view in result["connections"]:
        who = f"{view['user_id']}, " if named else ""
        since = datetime.fromtimestamp(view["since"], UTC).strftime("%H:%M:%S UTC")
        degraded = ", degraded" if view["degraded"] else ""
        this = " (this one)" if view["this_one"] else ""
        lines.append(
            f"- {who}from {view['address']} on {view['path']} since {since}, {view['assurance']}{degraded}{this}"
        )
    if more := result["count"] - len(lines):
        lines.append(f"- and {more} more")
    return "".join(f"\n{line}" for line in lines)


def drill_answer(result: Result) -> str:
    """What came of a drill."""
    match result["outcome"]:
        case "forbidden":
            return "A drill takes this machine\u2019s time, so it needs the permission \u201cadmin\u201d."
        case "not_here":
            return "I cannot run a drill in this process. On a machine with Doorward, type: " + _drill_command(result)
        case "busy":
            return "A drill is under way already. Ask again in a moment."
        case "failed":
            return "The drill did not come to its end in its time. On the machine, type: " + _drill_command(result)
    scenarios = result["scenarios"]
    handshakes = sum(scenario["handshakes"] for scenario in scenarios)
    head = (
        f"{count(handshakes, 'opening handshake')} in {count(len(scenarios), 'scenario')}, {duration(result['seconds'])}: "
        f"{'every rule held' if result['held'] else 'a rule was broken'}."
    )
    return "\n".join([head, *(line for scenario in scenarios for line in _scenario_lines(scenario))])


def _drill_command(result: Result) -> str:
    return f"`doorward drill --only {result['fault']}`"


def _scenario_lines(scenario: Result) -> list[str]:
    facts = [
        f"slowest answer {milliseconds(scenario['slowest_ms'])}" if scenario["slowest_ms"] is not None else "",
        f"{milliseconds(scenario['overrun_ms'])} past the deadline" if scenario["overrun_ms"] else "none too late",
        f"well again {duration(scenario['recovery_seconds'])} after the repair"
        if scenario["recovery_seconds"] is not None
        else "",
    ]
    held = "held" if scenario["held"] else "BROKEN"
    lines = [f"- {scenario['title']}: {held}; {', '.join(fact for fact in facts if fact)}"]
    return lines + [f"  - {rule}" for rule in scenario["broken"]]


def no_such_fault(fault: str, faults: Sequence[str]) -> str:
    """What can be broken instead."""
    return f"I cannot break it by \u201c{fault}\u201d. I know: {', '.join(faults)}."


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 token`, `2 tokens`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """A length of time in the unit a person would choose."""
    if seconds < 1:
        return milliseconds(seconds * 1000)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size and (seconds >= 2 * size or seconds % size < size / 10):
            return count(round(seconds / size), unit)
    return count(round(seconds), "second")


def milliseconds(value: float) -> str:
    """Three significant digits are enough for anybody."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((name, number) for name, number in counts.items() if number), key=lambda item: (-item[1], item[0]))


def _listing(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
